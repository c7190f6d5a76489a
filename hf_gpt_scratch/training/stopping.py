"""SIGTERM, such as a spot machine's notice, and Ctrl-C, while a run trains: a checkpoint is saved before it ends."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from ..utils.errors import Terminated

_TELLS_SENDER = hasattr(signal, "sigwaitinfo")  # whether the system tells who sends a signal: not macOS and Windows


class Stop:
    """
    Whether the run is asked to end.

    Attributes:
        error: what ends it, raised after the checkpoint is saved; `None` while nothing asks for it.
    """

    error: type[KeyboardInterrupt] | None = None

    def is_agreed(self, processes: int, is_moment: bool) -> bool:
        """
        Whether it is, by any of the processes, which must all save the same step.

        Args:
            is_moment: whether to ask the others, where there are several: at a step at which they meet anyway.
        """
        if processes == 1:
            return self.error is not None
        if not is_moment:
            return False
        on = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        asked = torch.tensor([0 if self.error is None else 1 + issubclass(self.error, Terminated)], device=on)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        self.error = (None, KeyboardInterrupt, Terminated)[asked.item()]
        return self.error is not None


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """
    In the block SIGTERM and Ctrl-C ask for a stop. A second Ctrl-C raises `KeyboardInterrupt` at once, a second
    SIGTERM ends the process; with a WORLD_SIZE other than 1, as torchrun sets it, a second SIGTERM is ignored. In
    another thread than the main one, or where a signal is ignored, it is left alone.
    """
    stop, owner, before = Stop(), os.getpid(), {}

    def handle(number: int, frame) -> None:
        if os.getpid() != owner:  # a process that loads data: its parent decides on Ctrl-C
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        is_ctrl_c = number == signal.SIGINT
        if stop.error is not None and is_ctrl_c:
            raise KeyboardInterrupt
        stop.error = KeyboardInterrupt if is_ctrl_c else Terminated
        if not is_ctrl_c:  # under torchrun a second one comes from it, after the scheduler's to all processes
            signal.signal(number, signal.SIG_IGN if os.environ.get("WORLD_SIZE", "1") != "1" else signal.SIG_DFL)
        at_once = "; press Ctrl-C again to end at once" if is_ctrl_c else ""
        with suppress(OSError, ValueError):  # nobody reads: the same Ctrl-C has ended `| tee`, or the terminal is gone
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\nSaving a checkpoint{at_once}.\n".encode())

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Loading:
    """
    What a process that loads data does first. A terminal sends Ctrl-C to all processes of a command, a scheduler or
    systemd SIGTERM to all of a job: one that loads data is ended by its parent alone, which saves a checkpoint first,
    and may wait for a batch until then. SIGTERM is held off in a process that is forked (`forking`), which begins with
    one thread; those to come hold it off too.

    Args:
        then: DataLoader's `worker_init_fn`, which is called after it.
    """

    then: Callable[[int], object] | None

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if _TELLS_SENDER:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_with_parent, daemon=True).start()
        if self.then is not None:
            self.then(worker)


def forking(loader: DataLoader) -> None:
    """
    Has a DataLoader fork the processes that load data, where nothing else is asked for and `Loading` holds off SIGTERM
    (Linux). By other ways, Python's own from 3.14 on, they import PyTorch first, whose threads would die of SIGTERM.
    """
    if _TELLS_SENDER and loader.num_workers and loader.multiprocessing_context is None:
        loader.multiprocessing_context = "fork"


def is_of_dead_loading(error: Exception) -> bool:
    """Whether an error is that of a process that loads data, and has died."""
    return isinstance(error, ConnectionError | EOFError) or "DataLoader worker" in str(error)


def _end_with_parent() -> None:
    """
    Ends this process by a SIGTERM of its parent, or of anyone after that one's death. `parent.is_alive()` would not
    do: it reads a pipe whose other end those that were forked later hold too.
    """
    parent = multiprocessing.parent_process().pid
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent and os.getppid() == parent:
        pass
    os._exit(0)
