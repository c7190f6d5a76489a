"""The part of the report about code of others: no canary runs, each of them lives, and one that runs is told."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "training" / "reliability"))

import foreign_code  # noqa: E402
from foreign_kit import ADAPTER, TRACE  # noqa: E402
from foreign_places import PLACES  # noqa: E402
from forks import Ended  # noqa: E402

# A command that takes no care, in place of ours: the part must find it out.
CARELESS = """
import dataclasses, sys
sys.path.insert(0, "training/reliability")
import foreign_code
from faults import Settings
from pathlib import Path
place = next(place for place in foreign_code.PLACES if place.name == "a judge's model code")
foreign_code.PLACES = [dataclasses.replace(place, commands=[place.naive], naive=())]
[row] = foreign_code.rows(Settings(Path(sys.argv[1])))
print("executed", row.executed, "survived", row.survived, "good", row.is_good)
"""


def run(*words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )


@pytest.mark.slow
def test_no_canary_runs_unasked_and_each_lives():
    done = run("training/reliability/all.py", "--only", "foreign_code", "--quick")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("foreign code: ")]
    assert len(rows) == len(PLACES) and all(" 0 executed" in line for line in rows)


@pytest.mark.slow
def test_a_canary_that_runs_is_told(tmp_path):
    done = run("-c", CARELESS, str(tmp_path))
    assert "executed 1 survived 0 good False" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("status", "said", "fault"),
    [
        (0, "done", None),
        (1, "note: x\nerror: no.", None),
        (1, "done", "0 sentences"),
        (2, "error: a.\nerror: b.", "2 sentences"),
        (-9, "", "exit status -9"),
        (1, "Traceback (most recent call last)\nValueError: error: x", "a traceback"),
    ],
)
def test_a_command_does_its_work_or_refuses_in_one_sentence(status, said, fault):
    found = foreign_code.wrong(Ended(status, 1.0, said))
    assert found is None if fault is None else found.startswith(fault)


def test_every_place_is_in_the_table_of_security():
    """And the canary of each can be seen to live: by trust, by a careless program, or it is text that never ends."""
    table = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    names = [re.split(r": | \(| \w+\.\w+$", place.name)[0] for place in PLACES]
    assert [name for name in names if name not in table] == []
    without = [place.name for place in PLACES if not (place.trusting or place.careless)]
    assert without == ["chat template: endless"]


@pytest.mark.skipif(sys.platform == "win32", reason="the paths in the archives are those of other systems")
@pytest.mark.parametrize("part", ["beside a model", "in an archive", "in a data set"])
def test_each_file_with_a_canary_runs_it_in_a_careless_program(part, tmp_path, monkeypatch):
    """Also where it is the only one: else commands might be praised for not running what no program runs."""
    [place] = [place for place in PLACES if place.name.endswith(part)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    if part == "beside a model":
        for name in ("model", "classifier", "base", ADAPTER):
            Path(name).mkdir()
    place.plant(tmp_path)
    for name in ("classifier", "base", ADAPTER):  # hold the same files as the model
        shutil.rmtree(name, ignore_errors=True)
    kept = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    lives = set()
    for path, content in kept.items():
        for other in kept:
            other.unlink(missing_ok=True)
        path.write_bytes(content)
        for program in place.careless:
            shutil.rmtree("extracted", ignore_errors=True)
            with suppress(OSError, ImportError):  # the program's own file is not there
                program()
            if Path(TRACE).exists():
                Path(TRACE).unlink()
                lives.add((path, program))
    sys.modules.pop("usercustomize", None)
    assert {path for path, _ in lives} == set(kept) and {program for _, program in lives} == set(place.careless)
