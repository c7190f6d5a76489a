"""
The processes that load data, and signals. A terminal sends Ctrl-C to all processes of a command, a scheduler or
systemd SIGTERM to all of a job: one that loads data is ended by its parent alone, which saves a checkpoint first, and
may wait for a batch until then.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

try:
    from multiprocessing.context import ForkServerProcess
except ImportError:  # Windows
    ForkServerProcess = ()

from torch.utils.data import DataLoader

_TELLS_SENDER = hasattr(signal, "sigwaitinfo")  # whether the system tells who sends a signal: not macOS and Windows


def leave_signals_to_parent(loader: DataLoader) -> None:
    """
    Has the processes that load data for a DataLoader leave signals to this one. On Linux they are held off while those
    start: by a fork, where nothing else is asked for. By other ways, Python's own from 3.14 on, they import PyTorch
    first, whose threads would die of SIGTERM.
    """
    if loader.num_workers:
        loader.worker_init_fn = Loading(loader.worker_init_fn)
        if _TELLS_SENDER and loader.multiprocessing_context is None:
            loader.multiprocessing_context = "fork"


@dataclass(frozen=True)
class Loading:
    """
    What a process that loads data does first. One that is forked begins with one thread, and with signals held off;
    its threads to come hold off SIGTERM too.

    Args:
        then: DataLoader's `worker_init_fn`, which is called after it.
    """

    then: Callable[[int], object] | None

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.excepthook = partial(_say, sys.excepthook)
        if _TELLS_SENDER:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # programs that this one starts inherit it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_with_parent, daemon=True).start()
        if self.then is not None:
            self.then(worker)


def is_of_dead_loading(error: Exception) -> bool:
    """Whether an error is that of a process that loads data, and has died."""
    return isinstance(error, ConnectionError | EOFError) or "DataLoader worker" in str(error)


@contextmanager
def _signals_held_off() -> Iterator[None]:
    """
    Holds off SIGINT and SIGTERM in the block, and in a process that is forked in it until `Loading` takes over. What
    this process has caught is handled at the end of the block. Not to take them in this thread would not do: another
    one, of PyTorch's, takes them then, and Python handles them here all the same, where what a handler raises gets
    lost (Python runs what libraries ask for after a fork, and prints their errors) or leaves an iterator behind that
    has not all of its attributes.
    """
    caught: list[int] = []
    with ExitStack() as undone:  # all of it, whatever a handler raises meanwhile
        undone.callback(_handle, caught)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    undone.callback(signal.signal, number, handler)
                    signal.signal(number, lambda number, frame: caught.append(number))
        undone.callback(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        yield


def _handle(caught: list[int]) -> None:
    while caught:
        signal.raise_signal(caught.pop(0))


_start = DataLoader._get_iterator


def _start_held_off(loader: DataLoader):
    """
    DataLoader's own, with signals held off where `Loading` takes over. It is put in place of it for all, as accelerate
    makes another loader of one to skip batches, and keeps of this package's nothing but the `worker_init_fn`.
    """
    if not (_TELLS_SENDER and isinstance(loader.worker_init_fn, Loading)):
        return _start(loader)
    with _signals_held_off():
        return _start(loader)


DataLoader._get_iterator = _start_held_off


def _say(otherwise: Callable, kind, error, traceback) -> None:
    """
    The excepthook of a process that loads data. `multiprocessing.resource_sharer` hands batches over in a thread, and
    calls it when the other end breaks off: a parent that has died, as this process soon learns, or one that raises its
    own error.
    """
    if not isinstance(error, ConnectionError | EOFError):
        otherwise(kind, error, traceback)


def _end_with_parent() -> None:
    """
    Ends this process by a SIGTERM of its parent, or after that one's death. PyTorch looks for that too, but takes for
    the parent whom it finds when it begins, which is another one where the real one was killed before.
    `parent.is_alive()` would not do: it reads a pipe whose other end those that were forked later hold too.
    """
    parent = multiprocessing.parent_process().pid
    is_child = not isinstance(multiprocessing.current_process(), ForkServerProcess)  # which is one of that server's
    while not is_child or os.getppid() == parent:
        told = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)
