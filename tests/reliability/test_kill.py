"""Jobs and commands that are killed end as if they were not: a few tries of each, of the report's part on that."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELIABILITY = ROOT / "training" / "reliability"
sys.path.insert(0, str(RELIABILITY))
try:
    import forks
    import kill
    from kill_subject import Subject, bytes_differ

    NAMES = [subject.name for subject in kill.subjects()]
finally:
    sys.path.remove(str(RELIABILITY))

# All subjects with one of these words are tried: "train instruct" is also that with LoRA
WORDS = [name for name in NAMES if not any(other in name for other in NAMES if other != name)]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks")


@pytest.mark.kill
@pytest.mark.parametrize("word", WORDS)
def test_what_is_killed_ends_as_if_it_was_not(word):
    command = [sys.executable, RELIABILITY / "all.py", "--only", "kill", "--quick", "--tries", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, "--subjects", word], env=environment, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    for name in NAMES:
        assert (f"\nkilled: {name}: 2 of 2 survived, 0 lost" in run.stdout) == (word in name), run.stdout


def write(words: list[str]) -> int:
    """Writes a file in a moment, and goes on where a killed run ended."""
    for letter in "whole":
        with open("file", "a+") as file:
            file.seek(0)
            if letter not in file.read():
                file.write(letter)
        time.sleep(0.03)
    return 0


def write_anew(words: list[str]) -> int:
    """Writes a file in a moment, after what a killed run has written."""
    for letter in "whole":
        with open("file", "a") as file:
            file.write(letter)
        time.sleep(0.03)
    return 0


def write_at_the_second_repetition(words: list[str]) -> int:
    """Writes a file in a moment; at the first time that it goes on where a killed run ended, it refuses."""
    refused = Path(f"{Path.cwd()}.refused")  # what is in the folder counts
    if Path("file").exists() and not refused.exists():
        refused.touch()
        os.write(1, b"error: not yet\n")
        return 1
    return write(words)


def write_with_another(words: list[str]) -> int:
    """The same, and leaves another process behind, where it is killed."""
    other = os.fork()
    if other == 0:
        time.sleep(30)
        os._exit(0)
    write(words)
    os.kill(other, signal.SIGKILL)
    return 0


def result(tmp_path, monkeypatch, run, **more) -> kill.Row:
    """The row of a command that needs no package."""
    monkeypatch.setattr(forks, "freeze", lambda: None)
    monkeypatch.setattr(kill, "ORPHANED", 0.3)
    subject = Subject("one", lambda inputs: [], bytes_differ, run=run, **more)
    return kill.killed(subject, kill.Settings(tmp_path, tries=3))


def test_what_goes_on_survives(tmp_path, monkeypatch):
    assert result(tmp_path, monkeypatch, write).survived == 3


def test_a_repetition_that_fails_is_lost_though_the_next_one_would_not(tmp_path, monkeypatch):
    row = result(tmp_path, monkeypatch, write_at_the_second_repetition)
    assert row.lost and "exit status 1: error: not yet" in row.note


def test_what_a_killed_run_spoils_is_lost(tmp_path, monkeypatch):
    row = result(tmp_path, monkeypatch, write_anew)
    assert row.lost and "differs in file" in row.note


def test_a_process_that_a_killed_run_leaves_is_no_survival(tmp_path, monkeypatch):
    assert result(tmp_path, monkeypatch, write_with_another).survived == 3  # which is killed with it
    alone = result(tmp_path / "alone", monkeypatch, write_with_another, alone=True)
    assert alone.lost and "1 processes still run" in alone.note
