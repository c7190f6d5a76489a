"""SIGTERM, such as a spot machine's notice, and Ctrl-C, while a run trains: a checkpoint is saved before it ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from ..utils.errors import Terminated


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
