"""Where a model runs and in which precision: how it is chosen, and that the choice reaches the model."""

import io
import re
import sys

import pytest
import torch

from hf_gpt_scratch import Chat, GPTScratchForSequenceClassification, TextClassifier, load
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.pretrained import resolve_device, resolve_dtype
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
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
        ("auto", "mps", None, "bfloat16", "bfloat16"),
        ("auto", "cpu", None, "bfloat16", "float32"),
        ("bfloat16", "cuda", (7, 5), "float32", "bfloat16"),
        ("float16", "cpu", None, "float32", "float16"),
        (torch.bfloat16, "cpu", None, "float32", "bfloat16"),
    ],
)
def test_the_data_type(machine, asked, device, capability, saved, chosen):
    machine(gpus=1, capability=capability)
    assert resolve_dtype(asked, torch.device(device), saved) == getattr(torch, chosen)


def test_an_unknown_data_type_is_one_sentence():
    with pytest.raises(InputError, match="Unknown dtype 'int8'; expected auto or one of float32, bfloat16, float16"):
        resolve_dtype("int8", torch.device("cpu"))


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
    for options, said in ([], "Using cpu, float32."), (["--dtype", "bfloat16"], "Using cpu, bfloat16."):
        capsys.readouterr()
        assert main([*words, *options]) == 0
        assert capsys.readouterr().err.splitlines()[0] == said


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_refuses_a_gpu_that_is_not_there(models, words, machine, capsys):
    machine()
    assert main([*(word.format(models=models) for word in words), "--device", "cuda"]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch("error: CUDA is not available: .*\n", said)
