"""
The exception for wrong input, whose message is a sentence for the user, and how a program ends with it.
"""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .terminal import plain


class InputError(ValueError):
    """A file, a folder, a text or a setting cannot be used; the message says what is wrong and what to do."""


class UsageError(InputError):
    """The command itself is wrong: an option that does not exist or contradicts another."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, a machine's notice that it is about to end; cleaned up after as after Ctrl-C."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line and without a final period, to be quoted in a sentence; or else its type."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@contextmanager
def damage_told(sentence: str) -> Iterator[None]:
    """
    Whatever a library raises in the block, over a file that is damaged or made to do harm, becomes an `InputError` of
    this sentence, with "{}" for what the library says. A panic of one in Rust is no `Exception`.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(sentence.replace("{}", one_line(error)[:500])) from None


def run_reporting_errors(run: Callable[[], int | None]) -> int:
    """
    Calls `run` and returns the exit status of the program: 0, or what `run` returned; 2 for wrong usage, 1 for wrong
    input or a file that cannot be read or written, 130 for Ctrl-C and 143 for SIGTERM, after printing one sentence on
    stderr. Anything else is a bug of ours and keeps its traceback.
    """
    status = 1
    try:
        with sigterm_raised():
            return run() or 0
    except InputError as error:
        message = str(error)
        status = 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as interruption:
        is_sigterm = isinstance(interruption, Terminated)
        message = str(interruption) or ("Terminated." if is_sigterm else "Interrupted.")
        status = 143 if is_sigterm else 130  # as a shell has them: 128 and the signal's number
    except Exception as error:
        system = _system_error(error)
        if system is None:
            raise
        if system.errno == errno.EPIPE:  # the reader of our output, such as `head`, has seen enough
            sys.stderr.close()
            return 1
        where = f": {system.filename}" if system.filename else ""
        message = f"{(system.strerror or one_line(system)).rstrip('.')}{where}."
    print(f"error: {plain(message)}", file=sys.stderr)
    return status


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """
    SIGTERM raises `Terminated` in the block, once: what is begun is cleaned up. A second one ends the process at once.
    Where somebody else has a handler already, or this is not the main thread, that stays.
    """
    owner = os.getpid()

    def handle(number: int, frame) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != owner:  # a process that was forked, such as one that loads data
            os.kill(os.getpid(), signal.SIGTERM)
        raise Terminated

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _system_error(error: Exception) -> OSError | None:
    """The system's error that `error` is, or that a library has written into its own, such as that of a full disk."""
    if isinstance(error, OSError):
        return error
    if number := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors, which is written in Rust
        return OSError(int(number[1]), os.strerror(int(number[1])))
    # torch.save, which drops the number
    if isinstance(error, RuntimeError) and re.search(r"PytorchStreamWriter|unexpected pos \d+ vs \d+", str(error)):
        return OSError(errno.EIO, "A file could not be written, perhaps because the disk is full")
    return None
