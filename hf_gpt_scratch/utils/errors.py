"""
The exception for wrong input, whose message is a sentence for the user, and how a program ends with it.
"""

import errno
import os
import re
import sys
from collections.abc import Callable


class InputError(ValueError):
    """A file, a folder, a text or a setting cannot be used; the message says what is wrong and what to do."""


class UsageError(InputError):
    """The command itself is wrong: an option that does not exist or contradicts another."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line and without a final period, to be quoted in a sentence; or else its type."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def run_reporting_errors(run: Callable[[], int | None]) -> int:
    """
    Calls `run` and returns the exit status of the program: 0, or what `run` returned; 2 for wrong usage and 1 for
    wrong input, a file that cannot be read or written, or an interruption, after printing one sentence on stderr.
    Anything else is a bug of ours and keeps its traceback.
    """
    status = 1
    try:
        return run() or 0
    except InputError as error:
        message = str(error)
        status = 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as interruption:
        message = str(interruption) or "Interrupted."
    except Exception as error:
        system = _system_error(error)
        if system is None:
            raise
        if system.errno == errno.EPIPE:  # the reader of our output, such as `head`, has seen enough
            sys.stderr.close()
            return 1
        where = f": {system.filename}" if system.filename else ""
        message = f"{(system.strerror or one_line(system)).rstrip('.')}{where}."
    print(f"error: {message}", file=sys.stderr)
    return status


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
