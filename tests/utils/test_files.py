import json
import os
from pathlib import Path

import pytest

from hf_gpt_scratch.model_folder.saving import replace_model
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.files import all_or_none, atomic_folder, write_json
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


@pytest.mark.parametrize("is_there", ["", "out", "out/one"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_of_files_that_belong_together_none_is_left_where_one_fails(tmp_path, error, is_there):
    out, (one, two) = tmp_path / "out", (tmp_path / "out" / name for name in ("one", "two"))
    if is_there:
        out.mkdir()
    if is_there == "out/one":
        one.write_text("before")
    with pytest.raises(error), all_or_none(one, two, out):
        out.mkdir(exist_ok=True)
        one.write_text("1")
        raise error
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == {"": [], "out": ["out"], "out/one": ["out", "out/one"]}[is_there]


def test_files_that_belong_together_stay_and_so_does_what_another_has_put_there(tmp_path):
    with all_or_none(tmp_path / "a" / "one", tmp_path / "a"):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "one").write_text("1")
    assert files(tmp_path / "a") == {"one": "1"}
    with pytest.raises(OSError, match="full"), all_or_none(tmp_path / "b"):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "another").write_text("2")
        raise OSError("full")
    assert files(tmp_path / "b") == {"another": "2"}


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
