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
from typing import NoReturn

from .terminal import plain_line

NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
SCARCE = (*NOT_WRITTEN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|out of memory|bad_alloc|can't start new thread|MemoryError"
    r"|failed to map segment from shared object"
)
# How libraries say it that leave out the system's number
QUOTED = {
    errno.ENOSPC: re.compile(r"No space left on device|database or disk is full|Not enough disk space"),
    errno.EROFS: re.compile(r"Read-only file system|attempt to write a readonly database"),
    errno.EDQUOT: re.compile(r"Disk quota exceeded"),
    errno.EFBIG: re.compile(r"File too large"),
    errno.EMFILE: re.compile(r"Too many open files"),
    # torch.save's three, numpy's and SQLite's, which do not tell
    errno.EIO: re.compile(
        r"PytorchStreamWriter|unexpected pos \d+ vs \d+|basic_ios::clear|^\d+ requested and \d+ written|disk I/O error"
    ),
}
SYSTEM = {"sqlite3", "pyarrow", "_sqlite3", "matplotlib", "PIL"}  # whose errors of their own may quote the system
CONNECTION = {"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp"}


class InputError(ValueError):
    """
    A file, a folder, a text or a setting cannot be used; the message says on one line, whatever it quotes, what is
    wrong and what to do.
    """

    def __init__(self, message: str = ""):
        super().__init__(" ".join(message.splitlines()))


class UsageError(InputError):
    """The command itself is wrong: an option that does not exist or contradicts another."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, a machine's notice that it is about to end; cleaned up after as after Ctrl-C."""


def one_line(error: BaseException | str) -> str:
    """What an error says, on one line and without a final period, to be quoted in a sentence; or else its type."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


@contextmanager
def damage_told(sentence: str) -> Iterator[None]:
    """
    Whatever a library raises in the block, over a file that is damaged or made to do harm, becomes an `InputError` of
    this sentence, with "{}" for what the library says. A panic of one in Rust is no `Exception`. What the system lacks
    stays what it is, but for memory, of which a file may ask for any amount: that is told too.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        system = system_error(error)
        if system is not None and system.errno in SCARCE and system.errno != errno.ENOMEM:
            raise
        told = sentence.replace("{}", one_line(error)[:500])
        is_memory = system is not None and system.errno == errno.ENOMEM
        raise InputError(f"{told.rstrip('.')}, or too little memory was free." if is_memory else told) from None


def run_reporting_errors(run: Callable[[], int | None]) -> int:
    """
    Calls `run` and returns the exit status of the program: 0, or what `run` returned; 2 for wrong usage, 1 for wrong
    input or a file that cannot be read or written, 130 for Ctrl-C and 143 for SIGTERM, after printing one sentence on
    stderr. Anything else is a bug of ours and keeps its traceback.
    """
    status, kind = 1, "error: "
    try:
        with signals_raised():
            return run() or 0
    except InputError as error:
        message = str(error)
        status = 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as interruption:
        is_sigterm = isinstance(interruption, Terminated)
        message = str(interruption) or ("Terminated." if is_sigterm else "Interrupted.")
        status = 143 if is_sigterm else 130  # as a shell has them: 128 and the signal's number
        kind = ""  # it is what was asked for
    except Exception as error:
        system = system_error(error)
        if system is None:
            raise
        if system.errno == errno.EPIPE:  # the reader of our output, such as `head`, has seen enough
            sys.stderr.close()
            return 1
        where = f": {os.fsdecode(system.filename)}" if isinstance(system.filename, str | bytes | os.PathLike) else ""
        message = f"{one_line(system.strerror or system)}{where}."
    print(f"{kind}{plain_line(message)}", file=sys.stderr)
    return status


@contextmanager
def signals_raised() -> Iterator[None]:
    """
    Ctrl-C and SIGTERM are raised in the block: what is begun is cleaned up. SIGTERM raises `Terminated`, once: a
    second one ends the process at once. Where somebody else has a handler for it already, that stays; nothing is
    changed in another thread than the main one.

    Python handles a signal wherever it is: what is raised in a destructor, such as that of an iterator which waits for
    its processes, would be printed and forgotten. The same signal comes again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, tell, timers = os.getpid(), sys.unraisablehook, []
    is_ours = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    def handle(number: int, frame) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != owner:  # a process that was forked, such as one that loads data
            os.kill(os.getpid(), signal.SIGTERM)
        raise Terminated

    def raise_again(unraisable) -> None:
        is_sigterm = issubclass(unraisable.exc_type, Terminated)
        is_signal = issubclass(unraisable.exc_type, KeyboardInterrupt) and (is_ours or not is_sigterm)
        if os.getpid() != owner or not is_signal:
            tell(unraisable)
            return
        if is_sigterm:
            signal.signal(signal.SIGTERM, handle)
        number = signal.SIGTERM if is_sigterm else signal.SIGINT
        timers.append(threading.Timer(0.01, _send, [number]))  # when the destructor is at its end
        timers[-1].start()

    sys.unraisablehook = raise_again
    if is_ours:
        signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        sys.unraisablehook = tell
        for timer in timers:
            timer.cancel()
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _send(number: int) -> None:
    """Sends the main thread a signal, and interrupts what it waits for, which Windows does not do."""
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:
        signal.pthread_kill(threading.main_thread().ident, number)


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """
    What the system refuses to write in the block is told with a path. Libraries leave it out, and Python too where a
    file is already open.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        system = system_error(error)
        if system is None or system.errno not in NOT_WRITTEN or system.filename:
            raise
        raise OSError(system.errno, system.strerror, os.fspath(path)) from error


def raise_if_starved(error: BaseException, place: str | os.PathLike) -> None:
    """
    Raises what the system had too little of, room or memory or the right to write, where that is behind the error of
    a library: no advice on networks and files helps then. `place` is told where the system names no path.
    """
    system = system_error(error)
    if system is None or not (system.errno in SCARCE or (isinstance(system, PermissionError) and system.filename)):
        return
    name = os.fspath(place) if system.errno in NOT_WRITTEN else None
    raise OSError(system.errno, system.strerror, system.filename or name) from None


def raise_failed(sentence: str, status: int, said: str, place: str | os.PathLike) -> NoReturn:
    """
    What to raise for another process that failed: what the system had too little of, as `raise_if_starved`; or else an
    `InputError` of this sentence, with "{}" for the last line of what it said, or the signal that ended it.
    """
    last = (said.strip().splitlines() or [f"exit status {status}"])[-1].strip()
    if status < 0:  # the system ended it
        number = -status
        name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
        memory = ", perhaps because there was not enough memory: end other programs, and try again"
        last = f"it was ended by {name}{memory if name == 'SIGKILL' else ''}"
    else:
        raise_if_starved(RuntimeError(last), place)
    raise InputError(sentence.replace("{}", one_line(last)[:500]))


def system_error(error: BaseException) -> OSError | None:
    """
    What the system refused, where `error` is that, or follows from it, or where a library has put it into words of its
    own: no room on the disk, no memory, no network.
    """
    found = _own_system_error(error)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and not isinstance(error, InputError):
        behind = system_error(cause)
        # Errors that were dealt with come before others: a full disk and too little memory are never dealt with.
        is_reason = error.__cause__ is not None or (behind is not None and behind.errno in SCARCE)
        if behind is not None and is_reason and (found is None or (behind.filename and not found.filename)):
            return behind
    return found


def _own_system_error(error: BaseException) -> OSError | None:
    """The same of this error alone."""
    said, library = one_line(error), type(error).__module__.partition(".")[0]
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError | ImportError) and NO_MEMORY.search(said)):
        return OSError(errno.ENOMEM, _without_memory(said))
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in NOT_WRITTEN and error.filename2:  # shutil's copies tell their source first
            return OSError(error.errno, error.strerror, error.filename2)
        return error
    number = _number(said, isinstance(error, OSError | RuntimeError) or library in SYSTEM)
    if number:
        is_vague = number == errno.EIO
        words = "A file could not be written, perhaps because the disk is full" if is_vague else os.strerror(number)
        return OSError(number, words, getattr(error, "filename", None))
    if isinstance(error, OSError):
        return error
    if library in CONNECTION:
        return OSError(errno.ENETUNREACH, f"The connection failed ({said}): check the network and try again")
    return None


def _number(said: str, is_quoting: bool) -> int | None:
    """The system's number of the error that a library quotes, by its number or else in words."""
    if number := re.search(r"\(os error (\d+)\)|\[errno (\d+)\]", said, re.IGNORECASE):  # of Rust, of Arrow
        return int(number[1] or number[2])
    return next((number for number, words in QUOTED.items() if is_quoting and words.search(said)), None)


def _without_memory(said: str) -> str:
    """What to do about it, with how much was wanted where that is known."""
    wanted = re.search(r"(?:allocate|allocation of) ([\d.,]+ ?(?:bytes|[KMGT]iB))", said)
    more = f" ({wanted[1]} more were wanted)" if wanted else ""
    return f"There is not enough memory{more}: end other programs, or take smaller batches or a smaller model"
