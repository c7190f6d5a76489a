import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.model_folder.saving import replace_model
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.files import atomic_folder, remove_left_in, together, write_json
from hf_gpt_scratch.utils.result_card import Metric, ResultCard


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("is_there", [False, True], ids=["absent", "empty folder"])
def test_folder_has_its_name_only_when_it_is_complete(tmp_path, is_there):
    out = tmp_path / "parent" / "out"
    if is_there:
        out.mkdir(parents=True)
    with atomic_folder(out) as partial:
        (partial / "one").write_text("1")
        assert not out.exists() or not any(out.iterdir())
        (partial / "two").write_text("2")
    assert files(out) == {"one": "1", "two": "2"}
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_folder(tmp_path / "out") as partial:
        (partial / "one").write_text("1")
        raise error
    assert not any(tmp_path.iterdir())


def tree(folder) -> dict[str, str | None]:
    """What is below a folder: the texts of files by their names, and `None` for folders."""
    found = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None for path in found}


@pytest.mark.parametrize("had", [{}, {"a/out/one": "before", "a/out/other": "mine"}], ids=["new", "there"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_files_that_belong_together_are_all_replaced_or_none(tmp_path, error, had):
    out = tmp_path / "a" / "out"
    for name, text in had.items():
        out.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = tree(tmp_path)

    def write():
        with together(out) as partial:
            (partial / "one").write_text("1")
            (partial / "results").mkdir()
            (partial / "results" / "two").write_text("2")
            if error:
                raise error

    with pytest.raises(error):
        write()
    assert tree(tmp_path) == before
    error = None
    write()
    written = {"a": None, "a/out": None, "a/out/one": "1", "a/out/results": None, "a/out/results/two": "2"}
    assert tree(tmp_path) == {**had, **written}


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("had", [{}, {"a": "1", "c": "3"}], ids=["new", "there"])
def test_files_that_belong_together_go_back_where_one_does_not_come(tmp_path, monkeypatch, had, failing):
    for name, text in had.items():
        (tmp_path / name).write_text(text)
    came = []

    def replace(source, target):
        came.append(target)
        if len(came) > failing:
            raise KeyboardInterrupt
        os.replace(source, target)

    monkeypatch.setattr("hf_gpt_scratch.utils.files.replace_file", replace)
    with pytest.raises(KeyboardInterrupt), together(tmp_path) as partial:
        for name in ("a", "b", "c"):
            (partial / name).write_text("new")
    assert tree(tmp_path) == had


def test_a_folder_stands_where_a_file_is_to_come(tmp_path):
    (tmp_path / "b").mkdir()
    refusal = pytest.raises(InputError, match="b is a folder, where a file is to be written; rename it")
    with refusal, together(tmp_path) as partial:
        for name in ("a", "b"):
            (partial / name).write_text("new")
    assert tree(tmp_path) == {"b": None}


def test_files_that_belong_together_may_be_deep(tmp_path):
    for text in ("1", "2"):
        with together(tmp_path / "out") as partial:
            (partial / "x" / "y").mkdir(parents=True)
            (partial / "x" / "y" / "z").write_text(text)
    assert tree(tmp_path / "out") == {"x": None, "x/y": None, "x/y/z": "2"}


def test_files_that_belong_together_come_in_the_order_in_which_they_were_written(tmp_path, monkeypatch):
    came = []
    monkeypatch.setattr("hf_gpt_scratch.utils.files.replace_file", lambda source, target: came.append(target.name))
    with together(tmp_path) as partial:
        for name in ("b", "c", "a"):
            write_json(partial / name, name)
    assert came == ["b", "c", "a"]


def test_an_error_over_files_that_belong_together_names_where_they_were_to_go(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal, together(tmp_path) as partial:
        (partial / "missing" / "one.json").write_text("{}")
    assert refusal.value.filename == str(tmp_path / "missing" / "one.json")


def test_what_a_killed_command_left_of_files_that_belong_together_goes(tmp_path):
    code = "import os, sys; from hf_gpt_scratch.utils.files import together\n"
    code += "with together(sys.argv[1]) as partial: (partial / 'one').write_text('1'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, tmp_path])
    assert len(tree(tmp_path)) == 4  # the unfinished folder, what is in it, and its lock
    with together(tmp_path) as living:
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [living.parent.name]
        remove_left_in(tmp_path)
        assert living.is_dir()
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_there_is_refused_and_stays(tmp_path, is_folder):
    out = tmp_path / "out"
    kept = out / "old" if is_folder else out
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("kept")
    with pytest.raises(InputError, match="out already exists"), atomic_folder(out):
        pytest.fail("The block ran.")
    assert kept.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [out]


@pytest.fixture
def new_model(tmp_path) -> Path:
    folder = tmp_path / "run" / ".model.partial"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("new")
    run = folder.parent
    for name in ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "metrics.json"):
        (run / name).write_text("old")
    return folder


def test_published_model_replaces_the_older_one_and_what_was_measured_of_it(new_model):
    run = new_model.parent
    replace_model(new_model, run)
    assert not new_model.exists()
    expected = {"config.json": "new", "model.safetensors": "new", "tokenizer.json": "new"}
    assert files(run) == expected


def test_what_was_deleted_of_the_older_model_is_said(new_model, capsys):
    assert replace_model(new_model, new_model.parent) == ["metrics.json"]
    assert capsys.readouterr().err.endswith("what was measured of it is deleted: metrics.json.\n")


def test_files_of_yours_stay_where_a_model_is_published(new_model):
    run = new_model.parent
    yours = {"plots/holiday.png", "results/mine.json", "model_backup.safetensors", "vocab.json", "modeling.py"}
    theirs = {"plots/training.png", "chat_template.jinja", "generation_config.json", "modeling_gpt_scratch.py"}
    for name in yours | theirs:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("{}")
    card = {"task": "a", "protocol": "b", "data": [{"source": "c", "sha256": "d"}], "metrics": {"f1": Metric(0.5)}}
    ResultCard(**card, command="e", environment={}).write(run, "spam")
    replace_model(new_model, run)
    assert all((run / name).exists() for name in yours)
    assert not any((run / name).exists() for name in theirs | {"results/spam.json"})


@pytest.mark.parametrize("interrupted_at", ["model.safetensors", "tokenizer.json", "config.json"])
def test_interrupted_publishing_leaves_no_config_to_load_a_mixture_by(new_model, monkeypatch, interrupted_at):
    replace = os.replace

    def interrupted_replace(source, target):
        if Path(source).name == interrupted_at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("hf_gpt_scratch.utils.files.os.replace", interrupted_replace)
    with pytest.raises(KeyboardInterrupt):
        replace_model(new_model, new_model.parent)
    assert not (new_model.parent / "config.json").exists()


def test_json_is_for_people(tmp_path):
    value = {"name": "café", "values": [1, 2.5, None]}
    write_json(tmp_path / "metrics.json", value)
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "café" in text
    assert text.startswith('{\n  "name"')


@pytest.mark.parametrize("failing", ["os.fsync", "Path.replace"])
def test_json_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, failing):
    write_json(tmp_path / "metrics.json", "old")

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(f"hf_gpt_scratch.utils.files.{failing}", fail)
    with pytest.raises(OSError):
        write_json(tmp_path / "metrics.json", "new")
    assert json.loads((tmp_path / "metrics.json").read_text()) == "old"


def test_value_that_is_no_json_leaves_the_old_one(tmp_path):
    write_json(tmp_path / "metrics.json", "old")
    with pytest.raises(TypeError):
        write_json(tmp_path / "metrics.json", {1, 2})
    assert files(tmp_path) == {"metrics.json": '"old"\n'}
