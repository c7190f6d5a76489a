"""A repeated command goes on, begins anew or ends at once; one of other settings is refused, naming them."""

import json
from types import SimpleNamespace

import pytest

from hf_gpt_scratch.training import spam
from hf_gpt_scratch.training.run_file import RunFile
from hf_gpt_scratch.utils.errors import InputError
from support.jobs import Stopped, run, train, write_data

RECORD = {"job": "spam", "data": {"sha256": "ab"}, "settings": {"seed": 1}, "tokenizer": "t", "model": {}}
RECORD |= {"adapter": None, "training rows": "9, x", "validation rows": "3, y"}
DAMAGED = [
    json.dumps({"is_finished": True, "asked": {}, **change})
    for change in ({}, {"record": {}}, {"record": {**RECORD, "settings": 3}}, {"record": RECORD, "asked": [1]})
]
ARGS = SimpleNamespace(data_file="a.tsv", dropout=0.1)


def training(**settings) -> SimpleNamespace:
    return SimpleNamespace(**{"resume_from_checkpoint": None, "max_steps": 4, "eval_steps": None, **settings})


@pytest.fixture
def finished(tmp_path) -> RunFile:
    file = RunFile.read(tmp_path)
    file.begin(RECORD, ARGS, training())
    for name in ("config.json", "metrics.json"):
        (tmp_path / name).write_text("{}")
    file.finish()
    return RunFile.read(tmp_path)


def test_a_finished_run_is_known_by_its_settings_wherever_its_data_is(finished):
    moved = SimpleNamespace(**{**vars(ARGS), "data_file": "elsewhere/a.tsv"})
    assert finished.is_finished_run(RECORD, moved, training()) and not finished.is_pushed(["you/gpt", None])


@pytest.mark.parametrize("lost", ["config.json", "metrics.json"])
def test_a_run_whose_outputs_are_gone_is_not_finished(finished, tmp_path, lost):
    (tmp_path / lost).unlink()
    assert not finished.is_finished_run(RECORD, ARGS, training())


def test_a_run_that_began_is_not_finished(tmp_path):
    file = RunFile.read(tmp_path)
    assert not file.is_begun
    file.begin(RECORD, ARGS, training())
    assert RunFile.read(tmp_path).is_begun and not file.is_finished_run(RECORD, ARGS, training())


@pytest.mark.parametrize("content", ["", "[]", '{"record": 3}', '{"record', *DAMAGED])
def test_a_file_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert not RunFile.read(tmp_path).is_begun


def test_other_settings_than_those_of_the_finished_run_are_named(finished):
    other = RECORD | {"settings": {"seed": 2}}
    with pytest.raises(InputError, match=r"was trained with another --seed \(1, here 2\); .*--overwrite_output_dir"):
        finished.is_finished_run(other, ARGS, training())
    with pytest.raises(InputError, match=r"finished, with another --dropout \(0.1, here 0.2\), --max_steps \(4, here"):
        finished.is_finished_run(RECORD, SimpleNamespace(dropout=0.2), training(max_steps=8))


def test_a_longer_training_goes_on_where_that_is_asked_for(finished):
    longer = training(max_steps=8, resume_from_checkpoint="true")
    assert not finished.is_finished_run(RECORD, ARGS, longer)
    assert finished.is_finished_run(RECORD, ARGS, training(resume_from_checkpoint="true"))
    assert not finished.is_finished_run(RECORD, ARGS, training(resume_from_checkpoint="run/checkpoint-2"))


def test_the_model_of_another_run_is_not_replaced(tmp_path):
    file = RunFile.read(tmp_path)
    file.begin(RECORD, ARGS, training())
    file.require_replaceable(RECORD | {"settings": {"seed": 2}})  # nothing is lost
    (tmp_path / "config.json").write_text("{}")
    file.require_replaceable(RECORD)
    with pytest.raises(InputError, match="another --seed"):
        file.require_replaceable(RECORD | {"settings": {"seed": 2}})


def test_what_is_pushed_elsewhere_is_not_pushed(finished, tmp_path):
    finished.finish(["you/gpt", None])
    file = RunFile.read(tmp_path)
    assert file.is_pushed(["you/gpt", None])
    assert not file.is_pushed(["you/other", None]) and not file.is_pushed(["you/gpt", "branch"])


def test_what_was_pushed_stays_so_until_it_is_pushed_elsewhere_or_trained_on(finished, tmp_path):
    finished.finish(["you/gpt", None])
    finished.finish()  # as before a push to another place, which fails
    assert RunFile.read(tmp_path).is_pushed(["you/gpt", None])
    finished.begin(RECORD, ARGS, training())
    finished.finish()
    assert not RunFile.read(tmp_path).is_pushed(["you/gpt", None])


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Those of a run of two steps, which was killed after its training."""
    folder = tmp_path_factory.mktemp("spam")
    settings = {"data_file": write_data("spam", folder / "data"), "output_dir": folder / "out"}
    train("spam", **settings)
    return settings


def test_the_same_command_goes_on_and_trains_no_step_too_many(settings, capsys):
    trainer = train("spam", **settings)
    assert f"Going on from {settings['output_dir']}/checkpoint-2." in capsys.readouterr().out
    assert trainer.state.global_step == 2 and trainer.state.epoch < 1  # max_steps ends within an epoch
    assert [entry["step"] for entry in trainer.state.log_history if "train_loss" in entry] == [2]


def test_other_settings_than_the_checkpoint_s_are_refused(settings):
    with pytest.raises(
        InputError, match=r"checkpoint-2 was trained with .*another --seed .*--overwrite_output_dir true"
    ):
        train("spam", **settings, seed=5)


def test_a_command_that_was_killed_before_its_first_checkpoint_begins_anew(settings, tmp_path, capsys):
    changed = settings | {"output_dir": tmp_path, "save_strategy": "no"}
    train("spam", **changed)
    assert "anew" not in capsys.readouterr().out
    (tmp_path / "checkpoint-1").mkdir()  # killed within its first save
    assert train("spam", **changed).state.global_step == 2
    assert f"No checkpoint was saved in {tmp_path} yet: starting anew." in capsys.readouterr().out
    assert not (tmp_path / "checkpoint-1").exists()


def test_checkpoints_of_which_nothing_says_that_they_are_this_run_s_are_left_alone(settings, tmp_path):
    weights = tmp_path / "checkpoint-7" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"another run's")
    with pytest.raises(InputError, match="holds checkpoint-7, from which no run can go on; .*--overwrite_output_dir"):
        train("spam", **settings | {"output_dir": tmp_path})
    assert weights.read_bytes() == b"another run's" and not (tmp_path / "run.json").exists()


def test_a_run_that_stopped_early_goes_on_with_more_patience(settings, tmp_path):
    """Each evaluation is as bad as the last, so that one of patience 1 ends at the second."""
    steps = {"max_steps": 6, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "learning_rate": 0.0}
    steps |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "output_dir": tmp_path}
    last = {"early_stopping_patience": 1}
    assert train("spam", **settings | steps | last).state.global_step == 2
    assert train("spam", **settings | steps | last).state.global_step == 2
    patient = {"early_stopping_patience": 3, "resume_from_checkpoint": "true"}
    assert train("spam", **settings | steps | patient).state.global_step == 4


def test_another_command_for_the_folder_is_refused_while_this_one_measures(settings, monkeypatch, capsys):
    refused = []

    def another(*args):
        capsys.readouterr()
        with pytest.raises(InputError, match="Another command is writing"):
            run("spam", **settings, seed=7, overwrite_output_dir=True)
        with pytest.raises(InputError, match="Another command is writing"):
            run("spam", **settings)
        assert "Going on" not in capsys.readouterr().out
        refused.append(args)
        raise Stopped

    monkeypatch.setattr(spam, "measure", another)
    with pytest.raises(Stopped):
        run("spam", **settings)
    assert len(refused) == 1
    monkeypatch.undo()
    run("spam", **settings)  # what has ended holds nothing
    assert RunFile.read(settings["output_dir"]).content["is_finished"]
