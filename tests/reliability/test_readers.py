"""Every reader gets files that lie, the same few each time; the report of reliability tries 10,000."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="readers are limited as Unix does it")

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "training/reliability"))

import messages  # noqa: E402
import model_readers  # noqa: E402
import reader_subjects  # noqa: E402
import readers  # noqa: E402
import shortcuts  # noqa: E402
from lies import Lie, tell  # noqa: E402

READERS = reader_subjects.READERS | model_readers.READERS | messages.READERS
MODELS = {"config.json, classifier", "tokenizer.json", "generation_config.json", "index of shards", "faq.json"}
QUICK = {*reader_subjects.READERS, *MODELS, "convert, torch zip", "message, writer", "page, votes"}
pytestmark = pytest.mark.filterwarnings("ignore")


def faults_of(reader, folder: Path, tries: int) -> list[str]:
    """What is wrong with how a reader takes so many lies."""
    reader.make(folder)
    reader.read(folder)
    content, found = (folder / reader.file).read_bytes(), []

    def check(lie: Lie) -> None:
        if fault := readers.read_lie(reader, folder, tell(lie, content, reader.form)):
            found.append(f"{fault} after {lie!r:.300}")

    readers._given(check, tries, 1)
    return found


def each(names) -> list:
    """The others import large packages, or read large files."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", each(READERS))
def test_only_input_errors_leave_a_reader(name, tmp_path):
    assert faults_of(READERS[name], tmp_path, 8) == []


BREAKS = {
    "a traceback": lambda folder: {}["x"],
    "a panic": lambda folder: (_ for _ in ()).throw(type("PanicException", (BaseException,), {})("x")),
    "memory": lambda folder: (_ for _ in ()).throw(MemoryError()),
    "too long": lambda folder: [None for _ in iter(int, 1)],
    "several lines": lambda folder: (_ for _ in ()).throw(an_error_of("a\nb")),
}


def an_error_of(said: str):
    from hf_gpt_scratch.utils.errors import InputError

    return type("Said", (InputError,), {"__str__": lambda self: said})()  # itself, it would be one line


@pytest.mark.parametrize("read", BREAKS.values(), ids=BREAKS)
def test_a_reader_that_breaks_is_seen(read, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "SECONDS", 0.2)
    assert readers.read_lie(reader_subjects.Reader("x", None, read), tmp_path, b"x")


def test_lies_are_the_same_for_a_seed():
    told = []
    for _ in range(2):
        told.append([])
        readers._given(lambda lie: told[-1].append(tell(lie, b'{"a": [1, {"b": "c"}]}', "json")), 50, 7)
    assert told[0] == told[1] and len(set(told[0])) > 30


def test_what_is_read_once_is_read_again_where_its_file_lies(tmp_path):
    calls = []

    def read(name):
        calls.append(name)
        if name == "bad":
            raise ValueError
        return [name]

    once = shortcuts._once(read, lambda name: name, list, most=1)
    once("valid").append("changed by who got it")
    assert once("valid") == ["valid"] and once("lie") == once("lie") == ["lie"]
    assert calls == ["valid", "lie", "lie"]
    for _ in range(2):
        with pytest.raises(ValueError):
            once("bad")
    shortcuts.forget()
    assert once("lie") == once("lie") == ["lie"] and calls[3:] == ["bad", "bad", "lie"]


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors", "model.py"])
def test_a_model_is_loaded_again_where_one_of_its_files_lies(name, tmp_path):
    for other in (name, "tokenizer.json"):
        (tmp_path / other).write_text("a")
    before = shortcuts._of_model(None, tmp_path)
    (tmp_path / "tokenizer.json").write_text("b")
    assert shortcuts._of_model(None, tmp_path) == before
    (tmp_path / name).write_text("b")
    assert shortcuts._of_model(None, tmp_path) != before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="it needs a system that can fork")
def test_the_part_of_the_report():
    words = ["--only", "readers", "--quick", "--tries", "5", "--subjects", "config", "votes"]
    done = subprocess.run(
        [sys.executable, ROOT / "training/reliability/all.py", *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "config of a job: 5 of 5 survived, 0 lost" in done.stdout
