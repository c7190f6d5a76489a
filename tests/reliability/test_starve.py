"""Starved commands end in one sentence with everything as it was, and what ends in any other way is seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="processes are limited as Unix does it")
ROOT = Path(__file__).parents[2]
RELIABILITY = ROOT / "training" / "reliability"
sys.path.append(str(RELIABILITY))

import full_disk  # noqa: E402
import starve_faults  # noqa: E402
from starve_faults import Whole, complaint, falls_short, half_checkpoint, remains  # noqa: E402
from starve_subjects import SUBJECTS, Subject, job  # noqa: E402

from hf_gpt_scratch.commands import COMMANDS  # noqa: E402
from hf_gpt_scratch.conversion.choices import TARGETS  # noqa: E402

is_linux = pytest.mark.skipif(sys.platform != "linux", reason="the faults are made as Linux makes them")
NOISE = "Traceback (most recent call last)"


@pytest.mark.parametrize(
    ("status", "said", "names", "wrong"),
    [
        (1, "10%\rerror: there is no room for run.\n", ["run"], None),
        (1, "note: x\nerror: there is too little memory.", [], None),
        (1, "error: there is no room.", ["run", "tmp"], "does not name the place"),
        (1, f"{NOISE}\nOSError\nerror: run is full.", ["run"], NOISE),
        (1, "error: run.\nFatal Python error: Aborted", ["run"], "Fatal Python error"),
        (1, "Killed", ["run"], "0 sentences"),
        (1, "error: run.\nerror: run.", ["run"], "2 sentences"),
        (2, "error: run.", ["run"], "exit status 2"),
        (-11, "", [], "exit status -11"),
        (-9, "error: run.", ["run"], "hangs"),
    ],
)
def test_a_command_that_fails_says_where_in_one_sentence(status, said, names, wrong):
    found = complaint(status, said, names)
    assert found is None if wrong is None else found.startswith(wrong)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, None),
        ({"card.json": b"a later day, and so"}, None),
        ({"out.csv": b"a,b"}, "changed out.csv"),
        ({"keep.txt": b""}, "changed keep.txt"),
        ({"card.json": b"half"}, "wrote a part of card.json"),
        ({"out.csv": None}, "changed out.csv"),
    ],
)
def test_a_command_that_ends_well_has_written_all_of_it(changes, wrong):
    left = {"keep.txt": b"Mine.", "out.csv": b"a,b\n1,2\n", "card.json": b"this very day, so"}
    whole = Whole(left, {"keep.txt", "out.csv"})
    assert falls_short({**left, **changes}, whole) == wrong
    assert falls_short({"keep.txt": b"Mine.", "card.json": b""}, whole) == "left without out.csv"


KEEPING = Subject("command", lambda inputs: ["judge"], keeps="judge.????.partial.jsonl")
COMMAND, JOB = Subject("command", lambda inputs: ["convert"]), job("spam")
BEFORE = {"keep.txt": b"Mine.", "old": None, "old/a.json": b"{}"}


@pytest.mark.parametrize(
    ("subject", "after", "wrong"),
    [
        (COMMAND, BEFORE, None),
        (COMMAND, BEFORE | {"keep.txt": b"Min"}, "changed keep.txt"),
        (COMMAND, {"keep.txt": b"Mine.", "old": None}, "changed old/a.json"),
        (COMMAND, BEFORE | {"out": None, "out/half.txt": b""}, "left out, out/half.txt"),
        (COMMAND, BEFORE | {"judge.1234.partial.jsonl": b""}, "left judge.1234.partial.jsonl"),
        (KEEPING, BEFORE | {"judge.1234.partial.jsonl": b""}, None),
        (JOB, BEFORE | {"run": None, "run/log.txt": b""}, None),
        (JOB, BEFORE | {"run/.x.json.partial-12": b""}, "left run/.x.json.partial-12"),
        (JOB, BEFORE | {"run/hf-gpt-scratch-1/a": b""}, "left run/hf-gpt-scratch-1/a"),
        (JOB, BEFORE | {".out.partial.lock": b""}, "left .out.partial.lock"),
        (JOB, BEFORE | {"run/checkpoint-2/manifest.json": b""}, "left a half checkpoint-2, without model"),
    ],
)
def test_a_command_that_fails_leaves_everything_as_it_was(subject, after, wrong):
    whole = {"run/checkpoint-4/manifest.json": b"", "run/checkpoint-4/model": b""}
    assert remains(BEFORE, after, whole, subject) == wrong


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        (["manifest.json", "model", "state.json"], None),
        (["model"], None),  # without its manifest it is no checkpoint
        (["manifest.json", "model"], "left a half checkpoint-4, without state.json"),
    ],
)
def test_a_checkpoint_with_a_manifest_is_whole(files, wrong):
    whole = {f"run/checkpoint-2/{name}": b"" for name in ("manifest.json", "model", "state.json")}
    assert half_checkpoint(whole | {f"run/checkpoint-4/{name}": b"" for name in files}, whole) == wrong


def test_little_is_taken_at_even_distances_and_never_all():
    assert starve_faults.spread(100, 4) == [1, 25, 50, 75] and starve_faults.spread(1, 4) == [1]
    needed = {"room": 40 * full_disk.PAGE, "inodes": 6, "file size": 3 * full_disk.PAGE}
    kinds = {
        (has_disks, writes): {fault.kind for fault in starve_faults.faults(needed, 8, has_disks, writes)}
        for has_disks in (True, False)
        for writes in (True, False)
    }
    assert kinds[True, True] == {"memory", "file size", "permission", "room", "inodes", "read-only"}
    assert kinds[True, False] == {"memory", "room", "read-only"} and kinds[False, False] == {"memory"}
    amounts = [fault.amount for fault in starve_faults.faults(needed, 8, True, True) if fault.at == "folder"]
    assert max(amounts) < needed["room"]


# `hf-gpt-scratch examples`, beside a command that takes no care: it says where, but what it began stays.
STARVED = """
import json, sys
from dataclasses import asdict
from pathlib import Path

import hf_gpt_scratch_cli

hf_gpt_scratch_cli.registers_later = True  # so that torch is not imported
import starve_worker
from faults import Settings
from starve_subjects import Subject

def careless(words):
    try:
        Path("keep.txt").write_bytes(bytes(40_000))
    except (OSError, MemoryError) as error:
        print(f"error: keep.txt: {error}")
        return 1

starve_worker.make_inputs = lambda inputs, run: (inputs / "keep.txt").write_text("Mine.")
examples = Subject("examples", lambda inputs: ["examples", "out"], old=("keep.txt",))
for run in (starve_worker.run_words, careless):
    starve_worker.run_words = run
    folder = Path(sys.argv[1], run.__name__)
    folder.mkdir()
    bench = starve_worker.Bench(Settings(folder, quick=True), "", has_disks=sys.argv[2] == "True")
    print("row", json.dumps(asdict(bench.starved(examples))))
"""


def run(*words, before=()) -> subprocess.CompletedProcess:
    paths = [str(path) for path in (ROOT, ROOT / "tests", RELIABILITY)]
    ours = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **ours, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    command = [*before, sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)


@is_linux
@pytest.mark.parametrize("has_disks", [False, True])
def test_a_command_survives_and_one_that_takes_no_care_does_not(tmp_path, has_disks):
    before = full_disk.own_mounts() if has_disks else ()
    if before is None:
        pytest.skip("nobody may mount a small disk here")
    done = run("-c", STARVED, tmp_path, has_disks, before=before)
    rows = [json.loads(line[len("row ") :]) for line in done.stdout.splitlines() if line.startswith("row ")]
    assert len(rows) == 2, done.stdout + done.stderr
    careful, careless = rows
    assert careful["survived"] == careful["tries"] and not careful["lost"], done.stdout
    kinds = {"memory", "file size", "permission"}
    if has_disks:
        kinds |= {"room", "inodes", "read-only", "full tmp", "full home", "read-only tmp", "read-only home"}
    assert {part.rpartition(" ")[0] for part in careful["note"].split("; ")[0].split(", ")} == kinds
    assert careless["lost"] >= (3 if has_disks else 1) and "changed keep.txt" in careless["note"]


# What `attempt` says of three servers, for our download and for one that keeps what comes.
SERVED = """
import sys, urllib.request
from pathlib import Path

import hf_gpt_scratch.data.sms_spam
import starve_servers
from faults import Settings

def careless(url, home):
    (home / "messages.zip").write_bytes(urllib.request.urlopen(url, timeout=5).read())

for download in (starve_servers.download, careless):
    starve_servers.download = download
    folder = Path(sys.argv[1], download.__name__)
    folder.mkdir()
    for fault in ("no network", "lies", "status 503"):
        print(f"{fault}: {starve_servers.attempt(fault, Settings(folder))}")
"""


@is_linux
def test_a_download_survives_bad_servers_and_one_that_takes_no_care_does_not(tmp_path):
    done = run("-c", SERVED, tmp_path)
    said = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
    assert len(said) == 6 and said[:3] == ["None"] * 3, done.stdout + done.stderr
    assert [one.split(":")[0] for one in said[3:]] == [NOISE, "exit status 0", NOISE]


def starved_words(folder: Path) -> list[list[str]]:
    """The words of all subjects."""
    (folder / "judge.url").touch()
    return [[str(word) for word in subject.words(folder)] for subject in SUBJECTS]


def test_each_command_that_writes_is_starved(tmp_path):
    words, only_prints = starved_words(tmp_path), {"chat"}
    names = {tuple(one[: 2 if isinstance(COMMANDS[one[0]][1], dict) else 1]) for one in words}
    for name, (_, kind) in COMMANDS.items():
        commands = (
            {(name, job) for job in kind if job != "spam" or name == "train"} if isinstance(kind, dict) else {(name,)}
        )
        assert name in only_prints or commands <= names, name


@pytest.mark.parametrize(
    "option",
    ["--output", "--output_dir", "--record", "--results", "--export-preferences", "--export-space", "--export-static"],
)
def test_each_option_that_writes_is_starved(tmp_path, option):
    assert any(option in one for one in starved_words(tmp_path))


def test_each_format_is_starved(tmp_path):
    words = starved_words(tmp_path)
    assert all(any(one[0] == "export" and name in one for one in words) for name in TARGETS)


@is_linux
@pytest.mark.slow
def test_the_part_of_the_report(tmp_path):
    words = ["--only", "starve", "--quick", "--folder", tmp_path, "--subjects", "report", "download"]
    done = run(RELIABILITY / "all.py", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starved: report: " in done.stdout
    assert "bad server: download of a data set: 10 of 10 survived, 0 lost" in done.stdout
