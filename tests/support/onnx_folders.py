"""Small models with random weights, saved and exported to ONNX: a classifier and a language model that chats."""

import tempfile
from functools import cache
from pathlib import Path

import pytest

from hf_gpt_scratch.conversion.onnx import export_onnx
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from support import classifiers, models

LIVELY = {"initializer_range": 0.3, "n_layer": 2}  # weights large enough that scores differ
QUESTIONS = ["the lamp on the hill\n### Instruction:\n### Response:\n"]


@cache
def exported(kind: str) -> tuple[Path, Path]:
    """The folders of "classifier" or "writer": its own, and its ONNX folder. They stay as they are: copy to change."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'hf-gpt-scratch[onnx]'")
    folder = Path(tempfile.mkdtemp(prefix="onnx-"))
    own, out = folder / "own" / kind, folder / "onnx" / kind
    if kind == "classifier":
        calibration = {"temperature": 1.5, "threshold": 0.4, "early": {"0.9": {"threshold": 0.6}}}
        classifiers.save_classifier(own, ("ham", "spam"), **LIVELY, calibration=calibration, long_texts="windows")
    else:
        texts = (*models.TEXTS, *QUESTIONS * 2)
        models.save_model(own, texts=texts, tokens=320, chat=CHAT_TEMPLATE, n_positions=512, **LIVELY)
    export_onnx(own, out)
    return own, out
