"""Where a model runs and in which precision: how it is chosen, and that the choice reaches the model."""

import io
import re
import sys

import pytest
import torch

from hf_gpt_scratch import (
    Chat,
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    TextClassifier,
    load,
    pretrained,
)
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.data.losses import perplexities
from hf_gpt_scratch.evaluation.judge.in_process import choice_probabilities
from hf_gpt_scratch.evaluation.text_classification.runs import log_odds
from hf_gpt_scratch.generation import sampling
from hf_gpt_scratch.generation.batch import complete_prompts
from hf_gpt_scratch.generation.sampling import stream_text
from hf_gpt_scratch.pretrained import load_with_tokenizer, resolve_device, resolve_dtype
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils import int8
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model


@pytest.fixture
def machine(monkeypatch):
    """Says what the machine has, as PyTorch would."""

    def has(gpus: int = 0, capability: tuple[int, int] = (8, 0), mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of `chat`, a language model, and `spam`, a classifier."""
    root = tmp_path_factory.mktemp("models")
    save_model(root / "chat", chat=CHAT_TEMPLATE, n_positions=256)
    save_model(root / "spam", GPTScratchForSequenceClassification, id2label={0: "ham", 1: "spam"})
    return root


@pytest.mark.parametrize(
    ("has", "chosen"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"gpus": 1, "mps": True}, "cuda")],
    ids=["nothing", "a Mac", "a GPU"],
)
def test_auto_is_the_best_device_there_is(machine, has, chosen):
    machine(**has)
    assert resolve_device("auto") == torch.device(chosen)
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")


def test_a_gpu_is_chosen_by_its_number(machine):
    machine(gpus=2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="There is no cuda:2; the last CUDA device is cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("cuda", "CUDA is not available: .*use --device cpu"),
        ("cuda:1", "CUDA is not available"),
        ("mps", "MPS is not available"),
        ("gpu", "Unknown device 'gpu'"),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(machine, device, complaint):
    machine()
    with pytest.raises(InputError, match=complaint):
        resolve_device(device)


@pytest.mark.parametrize(
    ("asked", "device", "capability", "saved", "chosen"),
    [
        ("auto", "cuda", (8, 0), "bfloat16", "bfloat16"),
        ("auto", "cuda", (7, 5), "bfloat16", "float16"),  # Colab's T4
        ("auto", "cuda", (7, 5), "float16", "float16"),
        ("auto", "cuda", (7, 5), "float32", "float32"),
        ("auto", "cuda", (7, 5), None, "float32"),
        ("auto", "cuda", (8, 0), "float64", "float32"),
        ("auto", "mps", None, "bfloat16", "bfloat16"),
        ("auto", "cpu", None, "bfloat16", "float32"),
        ("bfloat16", "cuda", (7, 5), "float32", "bfloat16"),
        ("float16", "cpu", None, "float32", "float16"),
        (torch.bfloat16, "cpu", None, "float32", "bfloat16"),
        ("bf16", "cpu", None, "float32", "bfloat16"),
        ("fp16", "cuda", (7, 5), "float32", "float16"),
        ("fp32", "mps", None, "bfloat16", "float32"),
        ("int8", "cpu", None, "float32", "int8"),
    ],
)
def test_the_data_type(machine, asked, device, capability, saved, chosen):
    machine(gpus=1, capability=capability)
    assert resolve_dtype(asked, torch.device(device), saved) == getattr(torch, chosen)


def test_an_unknown_data_type_is_one_sentence():
    with pytest.raises(InputError, match="Unknown dtype 'int4'; expected auto or one of fp32, bf16, fp16, int8"):
        resolve_dtype("int4", torch.device("cpu"))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_int8_on_a_gpu_is_one_sentence(device):
    with pytest.raises(InputError, match=f"int8 runs on a CPU only; on {device} use fp16 or bf16, or --device cpu"):
        resolve_dtype("int8", torch.device(device))


def test_the_python_api_takes_both(models):
    for model in (
        load(models / "chat", device="cpu", dtype="bfloat16")[0],
        Chat.from_pretrained(models / "chat", dtype=torch.bfloat16).model,
        TextClassifier.from_pretrained(models / "spam", dtype="bfloat16").model,
    ):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert load(models / "chat")[0].dtype == torch.float32
    for loads in (load, Chat.from_pretrained, TextClassifier.from_pretrained):
        with pytest.raises(InputError, match="CUDA is not available"):
            loads(models / "spam", device="cuda")


COMMANDS = {
    "generate": ["generate", "{models}/chat", "--prompt", "the lamp", "--max-new-tokens", "4"],
    "chat": ["chat", "{models}/chat", "--max-new-tokens", "4"],
    "classify": ["classify", "{models}/spam", "the lamp"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_once_what_it_uses(models, words, monkeypatch, capsys):
    words = [word.format(models=models) for word in words]
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    told = {"bfloat16": "bfloat16", "bf16": "bfloat16", "int8": "int8"}
    for options, said in ([], "float32"), *((["--dtype", word], found) for word, found in told.items()):
        capsys.readouterr()
        assert main([*words, *options]) == 0
        assert capsys.readouterr().err.splitlines()[0] == f"Using cpu, {said}."


@pytest.mark.parametrize(("width", "is_fast"), [(64, True), (32, True), (64, False)])
def test_int8_is_advised_for_a_wide_model_on_a_cpu_that_is_fast_at_it(tmp_path, monkeypatch, width, is_fast):
    monkeypatch.setattr(pretrained, "INT8_WIDTH", 64)
    monkeypatch.setattr(int8, "is_fast", lambda: is_fast)
    folder, said = save_model(tmp_path / "model", n_embd=width), []
    for dtype in "auto", "fp32":
        load_with_tokenizer(GPTScratchForCausalLM, folder, device="cpu", dtype=dtype, report=said.append)
    advice = " (--dtype int8 is faster here)" if width == 64 and is_fast else ""
    assert said == [f"Using cpu, float32{advice}.", "Using cpu, float32."]


def test_whether_this_cpu_is_fast_at_int8_can_be_told():
    assert int8.is_fast() in (True, False)


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_refuses_a_gpu_that_is_not_there(models, words, machine, capsys):
    machine()
    assert main([*(word.format(models=models) for word in words), "--device", "cuda"]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch("error: CUDA is not available: .*\n", said)


class Reached(Exception):
    """A model's forward was called; holds the devices of the tensors that it was given."""


def refuse(*inputs, **named):
    tensors = [value for value in (*inputs, *named.values()) if isinstance(value, torch.Tensor)]
    raise Reached({tensor.device.type for tensor in tensors})


def on_meta(model, monkeypatch):
    """The model on a device that every machine has besides the CPU, whose forward says what reaches it."""
    monkeypatch.setattr(model, "forward", refuse)
    return model.to("meta")


WRITING = {
    "stream_text": lambda model, tokenizer: list(stream_text(model, tokenizer, "the lamp")),
    "Chat": lambda model, tokenizer: list(Chat(model, tokenizer).ask("the lamp")),
    "complete_prompts": lambda model, tokenizer: complete_prompts(model, [[1, 2], [3]], 2),
    "judge": lambda model, tokenizer: choice_probabilities(model, [[1, 2], [3]], {"a": (5,), "b": (6,)}, 0),
    "perplexities": lambda model, tokenizer: perplexities(
        model, [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "prompt_length": 1}], 0
    ),
}
READING = {
    "classify": lambda classifier: list(classifier.classify(["the lamp", "a boat"])),
    "word_probabilities": lambda classifier: classifier.word_probabilities("the lamp"),
    "log_odds": lambda classifier: log_odds(classifier, ["the lamp"]),
}


@pytest.mark.parametrize("use", WRITING.values(), ids=WRITING)
def test_what_a_language_model_reads_is_on_its_device(models, monkeypatch, use):
    model, tokenizer = load(models / "chat")
    # It looks at the tokens themselves, of which this device has none.
    monkeypatch.setattr(sampling, "sample", lambda model, input_ids, room, **settings: refuse(input_ids))
    with pytest.raises(Reached) as reached:
        use(on_meta(model, monkeypatch), tokenizer)
    assert reached.value.args[0] == {"meta"}


@pytest.mark.parametrize("use", READING.values(), ids=READING)
def test_what_a_classifier_reads_is_on_its_device(models, monkeypatch, use):
    classifier = TextClassifier.from_pretrained(models / "spam")
    on_meta(classifier.model, monkeypatch)
    with pytest.raises(Reached) as reached:
        use(classifier)
    assert reached.value.args[0] == {"meta"}
