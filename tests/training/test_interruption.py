"""Whoever ends a job by Ctrl-C or SIGTERM outside of its training is told how it goes on."""

import json
from importlib import import_module

import pytest

from hf_gpt_scratch.cli import main
from hf_gpt_scratch.training import run_record
from hf_gpt_scratch.training.interruption import how_to_go_on
from hf_gpt_scratch.training.run_file import RunFile
from hf_gpt_scratch.utils.errors import Terminated
from support.jobs import SHAPE, write_data

pretrain = import_module("hf_gpt_scratch.training.pretrain")


@pytest.mark.parametrize(
    ("overwrite", "resume", "left_out"),
    [
        (False, None, ""),
        (False, "true", ""),
        (True, None, " without --overwrite_output_dir"),
        (False, "out/checkpoint-2", " without --resume_from_checkpoint"),
    ],
)
def test_what_would_begin_where_it_began_is_left_out(overwrite, resume, left_out, tmp_path):
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "manifest.json").touch()
    said = how_to_go_on(KeyboardInterrupt(), tmp_path, overwrite, resume)
    assert f"checkpoint-4 is kept: the same command{left_out} goes on from it." in said


@pytest.mark.parametrize(
    ("resume", "said"),
    [
        (None, "the same command begins anew."),
        ("false", "the same command begins anew."),
        ("true", "the same command without --resume_from_checkpoint begins anew."),
        ("other/checkpoint-2", "the same command goes on from other/checkpoint-2 again."),
    ],
)
def test_where_nothing_was_saved_it_begins_where_it_began(resume, said, tmp_path):
    assert how_to_go_on(KeyboardInterrupt(), tmp_path, False, resume).endswith(f"was saved: {said}")


@pytest.fixture
def words(tmp_path):
    data = write_data("pretrain", tmp_path / "data")
    options = SHAPE | {"data_file": data, "output_dir": tmp_path / "out", "max_steps": 2, "save_steps": 2}
    options |= {"sample_every": 0, "eval_strategy": "no"}
    return ["train", "pretrain", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]


def interrupt(error):
    def interrupted(*args, **kwargs):
        raise error

    return interrupted


@pytest.mark.parametrize(
    ("moment", "error", "status", "said"),
    [
        ("load_text", KeyboardInterrupt, 130, "Interrupted before the first checkpoint was saved: the same command"),
        ("results", Terminated, 143, "checkpoint-2 is kept: the same command goes on from it."),
        ("write_results", KeyboardInterrupt, 130, "checkpoint-2 is kept: the same command goes on from it."),
        ("push", Terminated, 143, "is finished but for the push, which the same command makes."),
    ],
)
def test_it_says_how_the_run_goes_on_and_it_does(moment, error, status, said, words, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        where, name = (run_record, "push_trained") if moment == "push" else (pretrain, moment)
        patch.setattr(where, name, interrupt(error))
        assert main(words) == status
    errors = capsys.readouterr().err
    assert said in errors.splitlines()[-1] and "error" not in errors
    assert main(words) == 0
    assert RunFile.read(tmp_path / "out").content["is_finished"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["steps"] == 2 and metrics["seconds"] > metrics["train_seconds"] - 0.1  # rounded


def test_of_a_finished_run_it_says_that_nothing_has_changed(words, tmp_path, monkeypatch, capsys):
    assert main(words) == 0
    monkeypatch.setattr(pretrain, "load_text", interrupt(Terminated))
    assert main([*words, "--seed", "5"]) == 143
    line = f"Terminated; the finished run in {tmp_path / 'out'} is as it was."
    assert line in capsys.readouterr().err.splitlines()


def test_a_push_is_made_up_for_without_the_checkpoint_that_was_named(words, tmp_path, monkeypatch, capsys):
    assert main(words) == 0
    named = [*words, "--resume_from_checkpoint", str(tmp_path / "out" / "checkpoint-2")]
    monkeypatch.setattr(run_record, "push_trained", interrupt(KeyboardInterrupt))
    assert main(named) == 130
    said = "is finished but for the push, which the same command without --resume_from_checkpoint makes."
    assert said in capsys.readouterr().err
    assert main(words) == 0
    assert "is finished: nothing is left to do" in capsys.readouterr().out


def test_a_run_that_replaces_another_goes_on_without_saying_so(words, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "results", interrupt(KeyboardInterrupt))
    assert main([*words, "--overwrite_output_dir"]) == 130
    assert "the same command without --overwrite_output_dir goes on from it" in capsys.readouterr().err
