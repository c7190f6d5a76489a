"""
vLLM and `transformers serve`, over HTTP, and the libraries MLX and CTranslate2 answer as the model itself does, where
this package is not installed.

    pytest -m serving

They are installed into environments of their own in `.cache/` first, which takes minutes once.
"""

import ast
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedModel

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.tokenizer import load_tokenizer, train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
from servers import ServerError, environment, serve, variables  # noqa: E402

from support.pages import ROOT, blocks, read  # noqa: E402

pytestmark = pytest.mark.serving

DEMO_DATA = Path(__file__).parents[2] / "training" / "demo_data"
NO_SCORE = "There is no module or parameter named 'score' in TransformersForSequenceClassification"
NEW_TOKENS = 24
ON_A_CPU = ("--dtype", "float32", "--enforce-eager")  # what a test wants and a GPU does not


@pytest.fixture(scope="module")
def story() -> str:
    return (DEMO_DATA / "story.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def messages() -> list[str]:
    with open(Path(__file__).parents[1] / "support" / "messages.tsv", encoding="utf-8", newline="") as file:
        texts = [row[-1] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return texts[:20]


@pytest.fixture(scope="module")
def prompts(story) -> list[str]:
    """The beginnings of 20 sentences."""
    sentences = [" ".join(sentence.split()[:5]) for sentence in re.split(r"(?<=[.!?])\s+", story)]
    return list(dict.fromkeys(sentences))[:20]


@pytest.fixture(scope="module")
def save(story, messages, tmp_path_factory):
    """Saves a model of a class, with random weights in every place and a tokenizer, and returns the folder."""
    tokenizer = train_tokenizer([story, *messages], 800, model_max_length=128)

    def save(model_class: type[PreTrainedModel]) -> Path:
        torch.manual_seed(0)
        config = GPTScratchConfig(
            vocab_size=len(tokenizer),
            n_positions=128,
            n_embd=128,
            n_layer=2,
            n_head=4,  # of width 32, the least that vLLM's attention for the CPU takes
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            id2label={0: "ham", 1: "spam"},
        )
        model = model_class(config)
        with torch.no_grad():
            for parameter in model.parameters():  # biases as well, which begin as zeros
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        folder = tmp_path_factory.mktemp("models") / model_class.__name__
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def writer(save) -> Path:
    return save(GPTScratchForCausalLM)


@pytest.fixture(scope="module")
def stock_writer(writer, tmp_path_factory) -> Path:
    return export(writer, tmp_path_factory.mktemp("stock") / "gpt2")


@pytest.fixture(scope="module")
def spam_filter(save) -> Path:
    return save(GPTScratchForSequenceClassification)


@pytest.fixture(scope="module")
def our_tokens(writer, prompts) -> list[list[int]]:
    """The tokens that the model puts behind each prompt."""
    model, tokenizer = GPTScratchForCausalLM.from_pretrained(writer), load_tokenizer(writer)
    tokens = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        tokens.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    assert len(set(map(tuple, tokens))) == 20, "the prompts' continuations must differ to show anything"
    return tokens


@pytest.fixture(scope="module")
def our_probabilities(spam_filter, messages) -> list[float]:
    predictions = list(TextClassifier.from_pretrained(spam_filter).classify(messages))
    assert not any(prediction.truncated for prediction in predictions)
    probabilities = [prediction.probability for prediction in predictions]
    assert min(probabilities) < 0.3 and max(probabilities) > 0.7, "they must differ to show anything"
    return probabilities


@pytest.mark.parametrize("model", ["writer", "stock_writer"])
def test_vllm_writes_the_same_tokens(model, request, prompts, our_tokens, tmp_path):
    folder = request.getfixturevalue(model)
    trust = ["--trust-remote-code"] if model == "writer" else []
    with serve("vllm", folder, *trust, *ON_A_CPU, work=tmp_path) as server:
        answer = server.post(
            "/v1/completions",
            model=str(folder),
            prompt=prompts,
            max_tokens=NEW_TOKENS,
            temperature=0,
            return_token_ids=True,
        )
    assert [choice["token_ids"] for choice in answer["choices"]] == our_tokens


def vllm_probabilities(folder, messages, work, *options) -> list[float]:
    """The spam probabilities that vLLM gives to the messages."""
    options = ["--trust-remote-code", "--runner", "pooling", *options, *ON_A_CPU]
    with serve("vllm", folder, *options, work=work) as server:
        answer = server.post("/classify", model=str(folder), input=messages)
    for result in answer["data"]:
        assert result["label"] == ("spam" if result["probs"][1] > 0.5 else "ham")
    return [result["probs"][1] for result in answer["data"]]


def test_vllm_gives_messages_the_same_probabilities(spam_filter, messages, our_probabilities, tmp_path):
    # Said to be a language model, it gets vLLM's own classification head, which reads the last token.
    options = ["--convert", "classify", "--hf-overrides", '{"architectures": ["GPTScratchForCausalLM"]}']
    found = vllm_probabilities(spam_filter, messages, tmp_path, *options)
    assert found == pytest.approx(our_probabilities, abs=1e-4)


@pytest.mark.xfail(
    raises=ServerError,
    strict=True,
    reason="vLLM (0.33 as well) names any classification head `classifier` and then finds no `score` to load into",
)
def test_vllm_knows_a_classifier_by_itself(spam_filter, messages, our_probabilities, tmp_path):
    try:
        found = vllm_probabilities(spam_filter, messages, tmp_path)
    except ServerError as error:
        assert NO_SCORE in str(error)
        raise
    assert found == pytest.approx(our_probabilities, abs=1e-4)


@pytest.mark.parametrize("around", [False, True], ids=["as it stands", "with the way around it"])
def test_what_the_docs_say_that_vllm_cannot_load(around, tmp_path):
    code = next(block.code for block in blocks(read(ROOT / "docs" / "serving.md"), "python") if "vllm" in block.code)
    if around:
        way = '{"convert": "classify", "hf_overrides": {"architectures": ["LlamaForCausalLM"]}}'
        code = code.replace("    llm = LLM(", f"    options |= {way}\n    llm = LLM(")
    script = tmp_path / "score.py"
    script.write_text(code)
    command = [environment("vllm") / "python", script]
    done = subprocess.run(command, env=variables(tmp_path), capture_output=True, text=True, timeout=300)
    if not around:
        assert done.returncode != 0 and NO_SCORE in done.stdout + done.stderr
        return
    expected, found = re.search(r"^expected (.*) found (.*)$", done.stdout, re.M).groups()
    assert ast.literal_eval(found) == pytest.approx(ast.literal_eval(expected), abs=1e-4)


def test_transformers_serve_writes_the_same_text(stock_writer, prompts, our_tokens, tmp_path):
    tokenizer = load_tokenizer(stock_writer)
    with serve("transformers", stock_writer, "--device", "cpu", work=tmp_path) as server:
        for prompt, tokens in zip(prompts, our_tokens):
            answer = server.post(
                "/v1/completions", model=str(stock_writer), prompt=prompt, max_tokens=NEW_TOKENS, temperature=0
            )
            assert answer["choices"][0]["text"] == tokenizer.decode(tokens, skip_special_tokens=True)
            assert answer["usage"]["completion_tokens"] == len(tokens)


LIBRARIES = {
    "mlx": """
import json, sys
import mlx.core as mx
from mlx_lm import load, stream_generate

folder, prompts, new_tokens = json.load(sys.stdin)
model, tokenizer = load(folder)
tokens = [[one.token for one in stream_generate(model, tokenizer, ids, max_tokens=new_tokens)] for ids in prompts]
print(json.dumps({"logits": model(mx.array(prompts[:1])).tolist(), "tokens": tokens}))
""",
    "ctranslate2": """
import json, pathlib, sys, tempfile
import numpy as np
from ctranslate2 import Device, Generator, StorageView
from ctranslate2.converters import TransformersConverter
from transformers import AutoTokenizer

folder, prompts, new_tokens = json.load(sys.stdin)
converted = tempfile.mkdtemp()
TransformersConverter(folder).convert(converted, force=True)
config = pathlib.Path(converted, "config.json")  # as docs/serving.md says
config.write_text(config.read_text().replace('"unk_token": null', '"unk_token": "<|endoftext|>"'))
generator, tokenizer = Generator(converted, compute_type="float32"), AutoTokenizer.from_pretrained(folder)
options = {"sampling_topk": 1, "max_length": new_tokens, "include_prompt_in_result": False, "return_end_token": True}
tokens = [generator.generate_batch([tokenizer.convert_ids_to_tokens(ids)], **options)[0] for ids in prompts]
arrays = np.array(prompts[:1], np.int32), np.array([len(prompts[0])], np.int32)
logits = generator.forward_batch(*map(StorageView.from_array, arrays)).to_device(Device.cpu)
print(json.dumps({"logits": np.array(logits).tolist(), "tokens": [one.sequences_ids[0] for one in tokens]}))
""",
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_have_the_same_logits_and_tokens(library, stock_writer, prompts, our_tokens, tmp_path):
    tokenizer = load_tokenizer(stock_writer)
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    command = [environment(library) / "python", "-c", LIBRARIES[library]]
    request, options = json.dumps([str(stock_writer), ids, NEW_TOKENS]), {"env": variables(tmp_path), "cwd": tmp_path}
    done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    with torch.no_grad():
        expected = GPT2LMHeadModel.from_pretrained(stock_writer)(torch.tensor(ids[:1])).logits
    torch.testing.assert_close(torch.tensor(found["logits"]), expected, atol=1e-3, rtol=1e-5)
    assert found["tokens"] == our_tokens
