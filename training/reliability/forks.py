"""
Runs a command again and again without importing torch and transformers, which takes seconds, each time: they are
imported once, and each run is a fork of this process, which computes nothing itself.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

IMPORTED = ("transformers", "datasets", "hf_gpt_scratch", "hf_gpt_scratch.cli")
LONGEST = 300  # seconds, of a run that nobody kills


@dataclass(frozen=True)
class Ended:
    """
    How a run ended.

    Attributes:
        status: its exit status; -9 where it was killed by SIGKILL.
        seconds: how long it ran.
        said: what it printed on stdout and stderr.
    """

    status: int
    seconds: float
    said: str

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.said

    @property
    def last_line(self) -> str:
        return (self.said.strip().splitlines() or [""])[-1]


def warm_up(*modules: str) -> None:
    """Imports what the runs need; one thread a run, so that a fork is safe and several can run side by side."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in (*IMPORTED, *modules):
        importlib.import_module(name)
    sys.modules["hf_gpt_scratch"].register()
    freeze()


def freeze() -> None:
    """Leaves all that is in memory now out of the runs' collecting of garbage, which would copy it each time."""
    gc.collect()
    gc.freeze()


class Fork:
    """A run that has begun: `run()` in a process of its own, in `folder`, its output going into `log`."""

    def __init__(self, run: Callable[[], int | None], folder: Path, log: Path):
        sys.stdout.flush()
        sys.stderr.flush()
        log.touch()  # it may be killed before it opens it
        self.log, self.begun = log, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _be_the_run(run, folder, log)
        self._status: int | None = None

    def is_running(self) -> bool:
        """Whether it has not ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status, self._ended = os.waitstatus_to_exitcode(status), time.monotonic()
        return self._status is None

    def seconds(self) -> float:
        """How long it has run, or ran."""
        return (time.monotonic() if self.is_running() else self._ended) - self.begun

    def wait(self, seconds: float) -> bool:
        """Waits until it has ended, at most so long, and says whether it has."""
        until = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() >= until:
                return False
            time.sleep(0.002)
        return True

    def send(self, number: int, to_all: bool = True) -> None:
        """Sends a signal to the run, and to what it has started, if it still runs."""
        if not self.is_running():
            return
        try:
            os.killpg(self.pid, number) if to_all else os.kill(self.pid, number)
        except ProcessLookupError:  # it has not made a group of its own yet
            os.kill(self.pid, number)

    def orphans(self, seconds: float) -> list[str]:
        """The commands of processes that the run had started and that still live after so many seconds."""
        until = time.monotonic() + seconds
        while (left := self._group()) and time.monotonic() < until:
            time.sleep(0.1)
        return left

    def _group(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()) or process.name())
        return found

    def end(self, seconds: float = LONGEST) -> Ended:
        """How it ended, after at most so many seconds; then it is killed."""
        if not self.wait(seconds):
            self.send(signal.SIGKILL)
            self.wait(10)
        said = self.log.read_text(encoding="utf-8", errors="replace")
        return Ended(self._status, self._ended - self.begun, said)


def _be_the_run(run: Callable[[], int | None], folder: Path, log: Path) -> None:
    """In the new process: runs, and ends the process whatever happens."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
