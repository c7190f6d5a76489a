"""SIGTERM and Ctrl-C save a checkpoint after the step, and the same command ends with the same weights."""

import os
import signal

import pytest
import torch
from transformers import TrainerCallback

from hf_gpt_scratch.training import run_record
from hf_gpt_scratch.training.stopping import stopped_by_signals
from hf_gpt_scratch.utils.errors import Terminated
from support.jobs import train, write_data

SETTINGS = {"max_steps": 9, "save_steps": 100, "dropout": 0.1, "word_dropout": 0.3, "logging_steps": 4}


class Signal(TrainerCallback):
    """Sends this process a signal within a step."""

    def __init__(self, number: int, step: int, times: int = 1):
        self.number, self.step, self.times = number, step, times

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    settings = {"data_file": write_data("spam", folder / "data"), **SETTINGS}
    return settings, train("spam", **settings, output_dir=folder / "out")


def interrupt(monkeypatch, callback: Signal) -> None:
    """The next training gets a signal."""
    original = run_record.Run._train

    def train_with_signal(self, trainer, resumed):
        monkeypatch.setattr(run_record.Run, "_train", original)
        trainer.add_callback(callback)
        original(self, trainer, resumed)

    monkeypatch.setattr(run_record.Run, "_train", train_with_signal)


@pytest.mark.parametrize(
    ("number", "error", "step"),
    [(signal.SIGINT, KeyboardInterrupt, 2), (signal.SIGTERM, Terminated, 4), (signal.SIGTERM, Terminated, 5)],
)
def test_a_signal_saves_and_the_same_command_goes_on_to_the_bit(number, error, step, whole, tmp_path, monkeypatch):
    settings, expected = whole
    interrupt(monkeypatch, Signal(number, step))
    with pytest.raises(error, match=f"checkpoint-{step + 1} is kept: the same command goes on from it") as ended:
        train("spam", **settings, output_dir=tmp_path)
    assert ended.type is error
    trainer = train("spam", **settings, output_dir=tmp_path)
    weights = trainer.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.model.state_dict().items())
    logs = [[(log["step"], log.get("loss")) for log in one.state.log_history] for one in (trainer, expected)]
    assert logs[0] == logs[1]


def test_a_second_ctrl_c_ends_it_at_once(whole, tmp_path, monkeypatch):
    interrupt(monkeypatch, Signal(signal.SIGINT, 2, times=2))
    with pytest.raises(KeyboardInterrupt, match="before the first checkpoint was saved"):
        train("spam", **whole[0], output_dir=tmp_path)


def test_handlers_are_put_back_and_ignored_signals_left_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        terminating = signal.getsignal(signal.SIGTERM)
        with stopped_by_signals() as stop:
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.error is Terminated and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == terminating
    finally:
        signal.signal(signal.SIGINT, before)
