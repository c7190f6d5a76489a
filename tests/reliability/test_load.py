"""The load report: pages that lose or mix up answers are seen, and the pages as they are do neither."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(monkeypatch):
    pytest.importorskip("httpx")
    monkeypatch.syspath_prepend(ROOT / "training" / "reliability")
    import load

    return load


def test_lost_and_mixed_up_answers_are_counted(load):
    told = load.Told()
    told.add(load.Answer(data="a", places=[(0, 3)]), "a")
    told.add(load.Answer(data="b"), "a")
    told.add(load.Answer(error="ReadTimeout"), "a")
    assert (told.asked, told.equal, told.mixed, told.errors, told.longest_queue) == (3, 1, 1, ["ReadTimeout"], 3)


@pytest.mark.slow
def test_the_pages_under_load():
    pytest.importorskip("gradio")
    command = [sys.executable, "training/reliability/all.py", "--only", "load", "--quick"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(", 0 lost") == 17
