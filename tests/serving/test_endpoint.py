"""
handler.py on the packages of Inference Endpoints' container, whose transformers is too old for the model's own code.

    pytest -m serving tests/serving/test_endpoint.py

They are installed into `.cache/` first (120 MB), without PyTorch: the one that is here is used.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch import Chat, GPTScratchForSequenceClassification, TextClassifier
from hf_gpt_scratch.hub.handler import handler_files
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from support.models import save_model

pytestmark = pytest.mark.serving
ROOT = Path(__file__).parents[2]
# Those of huggingface-inference-toolkit 0.5.6
CONTAINER = ("transformers==4.51.3", "huggingface_hub==0.30.2", "tokenizers==0.21.4")
SPAM = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
TEXTS = ["the lamp on the hill", "a boat " * 40, "a <|endoftext|> on the sea — é"]


@pytest.fixture(scope="module")
def packages() -> Path:
    folder = ROOT / ".cache" / "endpoint"
    complete = folder / "complete"
    if not (complete.is_file() and complete.read_text() == " ".join(CONTAINER)):
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *CONTAINER]
        subprocess.run(command, check=True, timeout=600)
        complete.write_text(" ".join(CONTAINER))
    return folder


def answers(packages: Path, folder: Path, requests: list[dict]) -> list:
    for name, path in handler_files().items():
        shutil.copy(path, folder / name)
    environment = {**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "support" / "endpoint.py"), str(folder)]
    done = subprocess.run(
        command, input=json.dumps(requests), env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {answer["status"] for answer in found} == {200}, found
    return [answer["body"] for answer in found]


def test_a_classifier_says_there_what_it_says_here(packages, tmp_path):
    calibration = {"temperature": 1.7, "shift": 0.3, "threshold": 0.52}
    settings = {"calibration": calibration, "long_texts": "windows", "initializer_range": 0.5, **SPAM}
    settings |= {"scale_attn_by_inverse_layer_idx": True, "n_layer": 2}
    folder = save_model(tmp_path / "model", GPTScratchForSequenceClassification, **settings)
    expected = list(TextClassifier.from_pretrained(folder, device="cpu").classify(TEXTS, words=True))
    [found] = answers(packages, folder, [{"inputs": TEXTS, "parameters": {"words": True}}])
    for one, prediction in zip(found, expected, strict=True):
        assert one["label"] == prediction.label
        for word, reading in zip(one["words"], prediction.words, strict=True):
            assert list(word["scores"].values()) == pytest.approx(list(reading.probabilities), abs=1e-5)


def test_a_follower_answers_there_as_here(packages, tmp_path):
    folder = save_model(tmp_path / "model", chat=CHAT_TEMPLATE, n_positions=256)
    chat, requests, expected = Chat.from_pretrained(folder, device="cpu"), [], []
    for text in ("Name a boat.", "Say <|endoftext|> and a lamp"):
        chat.reset()
        expected.append([{"generated_text": "".join(chat.ask(text, max_new_tokens=12))}])
        parameters = {"max_new_tokens": 12, "return_full_text": False}
        requests.append({"inputs": [{"role": "user", "content": text}], "parameters": parameters})
    assert answers(packages, folder, requests) == expected
