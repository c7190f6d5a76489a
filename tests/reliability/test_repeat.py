"""Runs of one seed are the same, and the report's part on that sees where they are not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELIABILITY = ROOT / "training" / "reliability"


@pytest.fixture
def runs(tmp_path):
    """The folders of two runs with the same outputs, at other times and with other words."""
    for number, name in enumerate(("one", "other")):
        folder = tmp_path / name / "run"
        (folder / "results").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        metrics = {"f1": 0.5, "seconds": number, "command": f"train --dataloader_num_workers {number}"}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "results" / "spam.json").write_text(json.dumps({"metrics": {"f1": 0.5}, "created": number}))
    return tmp_path / "one", tmp_path / "other"


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        ("model.safetensors", "heights", "model.safetensors"),
        ("metrics.json", '{"f1": 0.6}', "metrics.json: f1"),
        ("results/spam.json", '{"metrics": {"f1": 0.6}}', "spam.json: metrics.f1"),
    ],
)
def test_a_difference_is_seen(runs, path, content, named, monkeypatch):
    monkeypatch.syspath_prepend(RELIABILITY)
    from repeat import differences

    assert differences(*runs) == ""
    (runs[1] / "run" / path).write_text(content)
    assert differences(*runs) == f"differs in {named}"


@pytest.mark.kill
@pytest.mark.parametrize("subjects", [["spam", "streamed", "data set"], ["classify", "instruct"]])
def test_runs_of_one_seed_are_the_same(subjects, tmp_path):
    command = [sys.executable, RELIABILITY / "all.py", "--only", "repeat", "--quick", "--folder", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, "--subjects", *subjects], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count(", 0 lost") == 3 * len(subjects)
