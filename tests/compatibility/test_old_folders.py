"""Folders that version 0.1 made load in this one, by every command: the old commit is checked out to make them."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from hf_gpt_scratch import TextClassifier, load
from hf_gpt_scratch.cli import main

pytestmark = pytest.mark.compatibility

OLD_COMMIT = "af5499a"
ROOT = Path(__file__).parents[2]
IDS = torch.arange(2, 42)[None]
AUTO_CLASSES = {
    "writer": AutoModelForCausalLM,
    "follower": AutoModelForCausalLM,
    "adapter": AutoPeftModelForCausalLM,
    "spam": AutoModelForSequenceClassification,
    "calibrated": AutoModelForSequenceClassification,
}
MESSAGE = "Reply YES now to claim your prize of 500 in cash"


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    """The folders that the old version's scripts made."""
    archive = subprocess.run(["git", "archive", OLD_COMMIT], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the commit {OLD_COMMIT} is not in this clone's history; `git fetch --unshallow` brings it")
    version, out = tmp_path_factory.mktemp("version"), tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(version, filter="data")
    command = [sys.executable, str(Path(__file__).with_name("make_folders.py")), str(version), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(version)}
    made = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, timeout=900)
    assert made.returncode == 0, made.stderr[-3000:]
    return out


@pytest.fixture
def run(old, capsys, monkeypatch):
    """Runs a command of this version beside the folders; returns its exit status, what it printed and complained."""
    monkeypatch.chdir(old)

    def run(*args: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        capsys.readouterr()
        return main(list(args)), *capsys.readouterr()

    return run


def assert_as_before(old: Path, name: str, model) -> None:
    with torch.no_grad():
        found = model.eval()(IDS).logits
    torch.testing.assert_close(found, load_file(old / "logits.safetensors")[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", AUTO_CLASSES)
def test_the_auto_classes_give_the_old_logits(old, name):
    assert_as_before(old, name, AUTO_CLASSES[name].from_pretrained(old / name))


@pytest.mark.parametrize("name", AUTO_CLASSES)
def test_load_gives_the_old_logits(old, name):
    model, tokenizer = load(old / name)
    assert_as_before(old, name, model)
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize("name", AUTO_CLASSES)
def test_the_check_passes_but_for_an_adapter_of_a_local_folder(run, name):
    status, printed, said = run("check", name)
    lines = [line for line in printed.splitlines() if " can be shared: " not in line]
    findings = [re.split(r"  +", line, maxsplit=2) for line in lines]
    assert len(findings) > 5 and {status for _, status, _ in findings} <= {"ok", "failed"}, printed
    failed = {what for what, status, _ in findings if status == "failed"}
    assert (status, failed) == ((1, {"base model"}) if name == "adapter" else (0, set())), said


@pytest.mark.parametrize("name", ["spam", "calibrated"])
def test_classify_reads_with_the_calibration_of_the_folder(old, run, name):
    status, printed, _ = run("classify", name, "--json", MESSAGE)
    found = json.loads(printed)
    model = AutoModelForSequenceClassification.from_pretrained(old / name).eval()
    with torch.no_grad():
        scores = model(**AutoTokenizer.from_pretrained(old / name)(MESSAGE, return_tensors="pt")).logits[0]
    kept = getattr(model.config, "calibration", None)
    assert (kept is None) == (name == "spam")
    expected = (scores[1] - scores[0]).sigmoid().item()
    if kept is None:
        assert (status, found["probability"]) == (0, pytest.approx(expected, abs=1e-5))
    else:
        calibration = TextClassifier.from_pretrained(old / name).calibration
        assert calibration.threshold == pytest.approx(kept["threshold"])
        assert abs(found["probability"] - expected) > 1e-6
        assert found["label"] == ("spam" if found["probability"] > kept["threshold"] else "ham")


@pytest.mark.parametrize("name", ["writer", "follower", "adapter"])
def test_generate_continues(old, run, name):
    status, printed, _ = run(
        "generate", name, "--prompt", "Tilly looked", "--temperature", "0", "--max-new-tokens", "8"
    )
    model, tokenizer = load(old / name)
    ids = model.generate(**tokenizer("Tilly looked", return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert (status, printed) == (0, tokenizer.decode(ids[0], skip_special_tokens=True) + "\n")


@pytest.mark.parametrize("name", ["follower", "adapter"])
def test_chat_answers(run, name):
    status, printed, said = run("chat", name, "--max-new-tokens", "8", typed="What is the opposite of hot?\n")
    assert status == 0, said
    assert "error" not in said and printed.endswith("\n")


def test_a_language_model_without_a_chat_template_says_so(run):
    status, _, said = run("chat", "writer", typed="Hello\n")
    assert (status, "no chat template" in said) == (1, True)
