"""A twin with ONNX graphs, pushed to a stand-in for the Hub, and run from there by transformers.js in Node."""

import json
import re
from pathlib import Path

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.tokenizer import load_tokenizer
from support.checkpoints import random_weights
from support.models import save_model
from support.transformers_js import npm_packages, run_module

pytest.importorskip("onnx", reason="pip install -e '.[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install -e '.[onnx]'")
pytest.importorskip("onnxscript", reason="pip install -e '.[onnx]'")
pytestmark = [pytest.mark.hub, pytest.mark.node]
GRAPHS = ["onnx/model.onnx", "onnx/model_quantized.onnx"]


def push(elsewhere, folder: Path, *options: str):
    pushed = elsewhere("push", str(folder), "user/repo", *options, checked=False)
    assert pushed.returncode == 0, pushed.stderr
    return pushed.stdout


def saved(folder: Path, model_class, **settings) -> Path:
    """A model whose weights are all drawn at random, so that what it says is about its input."""
    save_model(folder, model_class, n_positions=256, **settings)
    random_weights(model_class.from_pretrained(folder)).save_pretrained(folder)
    (folder / "reference_logits.json").unlink()
    return folder


def run_card(hub, cache: Path) -> str:
    """What the JavaScript in the card of the twin prints, with the stand-in as the Hub."""
    files = hub.repos["user/repo"].commits[hub.repos["user/repo"].refs["gpt2"]]
    [code] = re.findall(r"```js\n(.*?)```", files["README.md"].decode(), re.S)
    settings = {"remoteHost": f"{hub.url}/", "cacheDir": str(cache), "allowLocalModels": False}
    before = 'import * as settable from "@huggingface/transformers";\nObject.assign(settable.env, JSON.parse(`{}`));\n'
    return run_module(before.replace("{}", json.dumps(settings)) + code).strip()


def test_the_card_of_a_writer_runs_as_it_stands(hub, elsewhere, tmp_path):
    npm_packages()
    folder = saved(tmp_path / "model", GPTScratchForCausalLM, chat=CHAT_TEMPLATE)
    push(elsewhere, folder, "--with-onnx")
    repo = hub.repos["user/repo"]
    files = repo.commits[repo.refs["gpt2"]]
    assert set(GRAPHS) < set(files) and "onnx_export.json" not in files and "model.safetensors" in files
    model, tokenizer = GPTScratchForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    card = files["README.md"].decode()
    question = json.loads(re.search(r'role: "user", content: (".*?") }', card)[1])
    tokens = int(re.search(r"max_new_tokens: (\d+)", card)[1])
    chat = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=tokens)[0, inputs["input_ids"].shape[1] :]
    assert run_card(hub, tmp_path / "cache") == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert "GET /user/repo/resolve/gpt2/onnx/model.onnx" in hub.requests

    push(elsewhere, folder, "--with-twin")  # graphs of other weights would stay behind
    assert not set(GRAPHS) & set(repo.commits[repo.refs["gpt2"]])


def test_the_card_of_a_classifier_runs_as_it_stands(hub, elsewhere, tmp_path):
    npm_packages()
    labels = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    folder = saved(tmp_path / "model", GPTScratchForSequenceClassification, **labels)
    push(elsewhere, folder, "--with-onnx")
    repo = hub.repos["user/repo"]
    card = repo.commits[repo.refs["gpt2"]]["README.md"].decode()
    text = json.loads(re.search(r"await classifier\((\".*?\")\)", card)[1])
    model, tokenizer = GPTScratchForSequenceClassification.from_pretrained(folder).eval(), load_tokenizer(folder)
    with torch.no_grad():
        probabilities = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
    label, score = re.search(r"label: '(\w+)', score: ([\d.e-]+)", run_card(hub, tmp_path / "cache")).groups()
    assert label == ("ham", "spam")[probabilities.argmax()]
    assert float(score) == pytest.approx(probabilities.max().item(), abs=1e-4)


def test_a_dry_run_lists_the_graphs(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    dry = push(elsewhere, folder, "--with-onnx", "--dry-run")
    assert (
        f"for the branch gpt2: README.md, config.json, generation_config.json, model.safetensors, {GRAPHS[0]}," in dry
    )
    assert hub.repos == {}
