"""Ctrl-C and SIGTERM to all processes of a run: those that load data are ended by their parent alone."""

import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time

import psutil
import pytest
import torch
from accelerate.data_loader import skip_first_batches
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from hf_gpt_scratch.training.data_workers import Loading, _signals_held_off, leave_signals_to_parent
from hf_gpt_scratch.training.stopping import stopped_by_signals
from hf_gpt_scratch.utils.errors import Terminated

on_linux = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="it is not told who sends a signal")


@on_linux
def test_a_process_that_loads_data_is_ended_by_its_parent_alone():
    context = multiprocessing.get_context("fork")
    has_begun = context.Event()
    process = context.Process(target=load_forever, args=(has_begun,), daemon=True)
    process.start()
    assert has_begun.wait(30)
    for name in ("-INT", "-TERM"):
        subprocess.run(["kill", name, str(process.pid)], check=True)
    process.join(0.3)
    assert process.is_alive()
    process.terminate()
    process.join(10)
    assert process.exitcode == 0


def load_forever(has_begun) -> None:
    Loading(lambda worker: has_begun.set())(0)
    time.sleep(60)


@on_linux
@pytest.mark.parametrize("way", ["fork", "forkserver", "spawn"])
def test_they_load_however_they_are_started(way):
    made = DataLoader(torch.arange(8), batch_size=4, num_workers=2, multiprocessing_context=way)
    leave_signals_to_parent(made)
    assert torch.cat(list(made)).tolist() == list(range(8))


@on_linux
@pytest.mark.parametrize("has_begun", [True, False], ids=["while it loads", "before it begins"])
def test_a_process_that_loads_data_ends_once_its_parent_is_dead(has_begun):
    """Also the first of several: the later ones hold what tells of the parent's death."""
    context = multiprocessing.get_context("fork")
    pids = context.SimpleQueue()
    parent = context.Process(target=start_two, args=(context, pids, has_begun))
    parent.start()
    loading = [psutil.Process(pids.get()) for _ in range(2)]
    parent.kill()
    parent.join()  # with a limit it would wait for what tells of its death
    try:
        until = time.monotonic() + 10
        while any(map(has_not_ended, loading)) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(map(has_not_ended, loading))
    finally:
        for process in filter(has_not_ended, loading):
            process.kill()


def start_two(context, pids, has_begun: bool) -> None:
    begun = [context.Event(), context.Event()]
    target = load_forever if has_begun else load_once_orphaned
    processes = [context.Process(target=target, args=(event,), daemon=True) for event in begun]
    for process, event in zip(processes, begun):
        process.start()
        assert not has_begun or event.wait(30)
    for process in processes:
        pids.put(process.pid)
    time.sleep(60)


def load_once_orphaned(has_begun) -> None:
    while os.getppid() == multiprocessing.parent_process().pid:
        time.sleep(0.01)
    load_forever(has_begun)


def has_not_ended(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def signal_forks(monkeypatch):
    """
    A function that sends signals to this process, where another thread takes them as one of PyTorch's would, and to
    each that it forks: in the moment of the fork, and once PyTorch has set its own handlers there.
    """
    fork, set_handlers, is_over = os.fork, signal_handling._set_worker_signal_handlers, threading.Event()
    thread = threading.Thread(target=is_over.wait)
    thread.start()

    def send(*numbers: int) -> None:
        def kill() -> None:
            for number in numbers:
                os.kill(os.getpid(), number)
            time.sleep(0.05)  # Python handles what any thread has taken

        def fork_signalled() -> int:
            pid = fork()
            kill()
            return pid

        def set_handlers_signalled() -> None:
            set_handlers()
            kill()

        monkeypatch.setattr(os, "fork", fork_signalled)
        monkeypatch.setattr(signal_handling, "_set_worker_signal_handlers", set_handlers_signalled)

    yield send
    is_over.set()
    thread.join()


def loader() -> DataLoader:
    made = DataLoader(torch.arange(8), batch_size=4, num_workers=2)
    leave_signals_to_parent(made)
    return made


@on_linux
@pytest.mark.parametrize("skipped", [0, 1])
def test_signals_in_the_moment_of_the_fork_wait_until_it_is_over(skipped, signal_forks, monkeypatch):
    told: set[int] = set()
    monkeypatch.setattr(signal, "raise_signal", told.add)
    signal_forks(signal.SIGINT, signal.SIGTERM)
    with stopped_by_signals():
        batches = list(skip_first_batches(loader(), skipped))  # as a resumed run does
    assert torch.cat(batches).tolist() == list(range(4 * skipped, 8))
    assert told == {signal.SIGINT, signal.SIGTERM}


@on_linux
def test_then_they_are_handled_as_ever(signal_forks):
    before = state_of_signals()
    signal_forks(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals() as stop:
        list(loader())
    assert stop.error is KeyboardInterrupt  # by the first process that was forked; the second one's raised it
    assert state_of_signals() == before


def state_of_signals() -> tuple:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return *handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ())


@on_linux
def test_a_handler_that_raises_meanwhile_leaves_all_as_it_was(monkeypatch):
    original = signal.signal

    def restore(number: int, handler) -> None:
        original(number, handler)
        if (number, handler) == (signal.SIGTERM, before[1]):
            raise Terminated

    with stopped_by_signals(), monkeypatch.context() as patch:
        before = state_of_signals()
        patch.setattr(signal, "signal", restore)
        with pytest.raises(Terminated), _signals_held_off():
            assert state_of_signals() != before
        assert state_of_signals() == before


@on_linux
def test_a_parent_that_dies_as_it_takes_a_batch_is_no_traceback(capfd):
    context = multiprocessing.get_context("fork")
    shared = context.SimpleQueue()
    process = context.Process(target=share, args=(shared,), daemon=True)
    process.start()
    address = shared.get()
    for _ in range(2):  # the second is answered once the first is done with
        with socket.socket(socket.AF_UNIX) as parent:
            parent.connect(address)
            assert parent.recv(1)  # and closes with the rest unread
    process.terminate()
    process.join(10)
    assert capfd.readouterr().err == ""


def share(shared) -> None:
    from multiprocessing.reduction import DupFd  # which Windows has not

    Loading(None)(0)
    shared.put(DupFd(0)._id[0])
    time.sleep(60)
