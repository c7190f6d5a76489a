"""The static page of a classifier in headless Chromium, from a server of files and by a double click."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch

from hf_gpt_scratch.apps import npm
from hf_gpt_scratch.apps.static_classify import static_page
from hf_gpt_scratch.apps.static_page import export_static
from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.tokenizer import load_tokenizer
from support.in_browser import PHONE, UNTRUSTED, Page, wait_for
from support.static_pages import ODD, address_of, asked, ready, require_packages, requests_of, served

pytestmark = pytest.mark.browser
SMS = Path(__file__).parents[1] / "support" / "messages.tsv"


@pytest.fixture(scope="module")
def pages(models, tmp_path_factory) -> dict[str, Path]:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    require_packages(npm.ONNXRUNTIME, npm.TOKENIZERS)
    folder = tmp_path_factory.mktemp("pages")
    for name, dtype in (("spam", "fp32"), ("topics", "fp32")):
        export_static(models[name], folder / name, static_page, dtype)
    return {name: folder / name for name in ("spam", "topics")}


@pytest.fixture(scope="module", params=["server", "file"])
def spam_page(request, browser, pages):
    """The page of two labels, in both ways."""
    if request.param == "file":
        yield address_of(pages["spam"])
    else:
        with served(pages["spam"]) as address:
            yield address


def texts() -> list[str]:
    lines = SMS.read_text(encoding="utf-8").splitlines()
    return [line.partition("\t")[2] for line in lines][:40]


def test_probabilities_and_tokens_are_those_of_torch(browser, spam_page, models, tmp_path):
    Page(browser, spam_page, tmp_path)
    ready(browser)
    classifier = TextClassifier.from_pretrained(models["spam"], device="cpu")
    messages = [*texts(), *ODD, "long " * 400]
    for text, found in zip(messages, asked(browser, "judge", messages)):
        [expected] = classifier.classify([text], words=True)
        assert [one["word"] for one in found["words"]] == [one.word for one in expected.words], text
        after = torch.tensor([one["probabilities"] for one in found["words"]])
        assert torch.allclose(after, torch.tensor([one.probabilities for one in expected.words]), atol=1e-4), text
        assert found["verdict"]["label"] == expected.label and found["isCut"] == expected.truncated
    assert asked(browser, "tokens", messages) == classifier.encode(messages)
