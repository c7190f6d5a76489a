"""SIGTERM and Ctrl-C save a checkpoint after the step, and the same command ends with the same weights."""

import errno
import multiprocessing
import os
import signal
import subprocess
import time

import pytest
import torch
from transformers import TrainerCallback

from hf_gpt_scratch.training import exact_trainer, run_record
from hf_gpt_scratch.training.stopping import stopped_by_signals
from hf_gpt_scratch.utils.errors import Terminated
from support.jobs import run, train, write_data

on_linux = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="it is not told who sends a signal")
SETTINGS = {"max_steps": 9, "save_steps": 100, "dropout": 0.1, "word_dropout": 0.3, "logging_steps": 4}


class Signal(TrainerCallback):
    """Sends this process a signal within a step."""

    def __init__(self, number: int, step: int, times: int = 1):
        self.number, self.step, self.times = number, step, times

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.send()

    def send(self) -> None:
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


def send_to_all() -> None:
    """SIGTERM to this process and to the two that load its data, from another."""
    processes = [os.getpid(), *(process.pid for process in multiprocessing.active_children())]
    assert len(processes) == 3
    assert {child._start_method for child in multiprocessing.active_children()} == {"fork"}  # no thread but one
    subprocess.run(["kill", "-TERM", *map(str, processes)], check=True)
    time.sleep(0.1)  # for one that dies of it to be noticed


@on_linux
def test_sigterm_to_all_processes_of_a_run_saves_too(whole, tmp_path, monkeypatch):
    settings, expected = whole
    settings = settings | {"dataloader_num_workers": 2}
    default, other = multiprocessing.context._default_context, multiprocessing.get_context("forkserver")
    monkeypatch.setattr(default, "_actual_context", other)  # as from Python 3.14 on
    callback = Signal(signal.SIGTERM, step=2)
    callback.send = send_to_all
    interrupt(monkeypatch, callback)
    with pytest.raises(Terminated, match="checkpoint-3 is kept: the same command goes on from it"):
        train("spam", **settings, output_dir=tmp_path)
    weights = train("spam", **settings, output_dir=tmp_path).model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.model.state_dict().items())
    assert not multiprocessing.active_children()


@on_linux
def test_a_process_that_loads_data_dies_of_it_where_it_is_not_held_off(whole, tmp_path, monkeypatch):
    settings = whole[0] | {"dataloader_num_workers": 2}

    def only_fork(loader) -> None:
        loader.multiprocessing_context = "fork"

    monkeypatch.setattr(exact_trainer, "leave_signals_to_parent", only_fork)
    callback = Signal(signal.SIGTERM, step=2)
    callback.send = send_to_all
    interrupt(monkeypatch, callback)
    with pytest.raises(Terminated, match="before the first checkpoint was saved: the same command begins anew"):
        train("spam", **settings, output_dir=tmp_path)


def test_another_error_after_a_signal_is_told(whole, tmp_path, monkeypatch):
    callback = Signal(signal.SIGTERM, step=2)

    def send() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("a defect")

    callback.send = send
    interrupt(monkeypatch, callback)
    with pytest.raises(RuntimeError, match="a defect"):
        train("spam", **whole[0], output_dir=tmp_path)


@pytest.mark.parametrize("moment", ["on_evaluate", "on_epoch_end", "on_train_end"])
def test_a_signal_after_the_last_step_is_not_forgotten(moment, whole, tmp_path, monkeypatch):
    settings, expected = whole
    callback = Signal(signal.SIGTERM, step=-1)

    def send(args, state, control, **_) -> None:
        if state.global_step == 9:
            callback.send()

    setattr(callback, moment, send)
    interrupt(monkeypatch, callback)
    settings = settings | {"eval_strategy": "steps", "eval_steps": 9, "load_best_model_at_end": False}
    with pytest.raises(Terminated, match="checkpoint-9 is kept: the same command goes on from it"):
        train("spam", **settings, output_dir=tmp_path)
    weights = train("spam", **settings, output_dir=tmp_path).model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.model.state_dict().items())


def test_a_full_disk_while_saving_and_the_same_command_goes_on(whole, tmp_path, monkeypatch):
    settings, expected = whole
    settings = settings | {"save_steps": 3}
    folder, original = tmp_path / "checkpoint-6", torch.save

    def save(content, path, *args, **kwargs):
        if os.path.basename(path) == "scheduler.pt" and folder.is_dir():
            raise OSError(errno.ENOSPC, "No space left on device", path)
        original(content, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space left"):
        run("spam", **settings, output_dir=tmp_path)
    assert (folder / "model.safetensors").is_file() and not (folder / "manifest.json").exists()
    monkeypatch.setattr(torch, "save", original)
    weights = train("spam", **settings, output_dir=tmp_path).model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in expected.model.state_dict().items())


def test_a_second_ctrl_c_ends_it_at_once(whole, tmp_path, monkeypatch):
    interrupt(monkeypatch, Signal(signal.SIGINT, 2, times=2))
    with pytest.raises(KeyboardInterrupt, match="before the first checkpoint was saved"):
        train("spam", **whole[0], output_dir=tmp_path)


def test_a_signal_is_heeded_though_nobody_reads_what_it_says(monkeypatch):
    """Ctrl-C also ends the `tee` that reads standard error."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed, stopped_by_signals() as stop:
        monkeypatch.setattr("sys.__stderr__", closed)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.error is KeyboardInterrupt


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
