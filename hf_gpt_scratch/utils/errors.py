"""The one exception that stands for "the input is wrong": its message is a sentence for the user."""

import errno
import sys
from collections.abc import Callable


class InputError(ValueError):
    """A file, a folder, a text or a setting cannot be used; the message says what is wrong and what to do."""


class UsageError(InputError):
    """The command itself is wrong: an option that does not exist or contradicts another."""


def run_reporting_errors(run: Callable[[], int | None]) -> int:
    """
    Calls `run` and returns the exit status of the program: 0, or what `run` returned; 2 for a wrong use and 1 for a
    wrong input, a file that cannot be read or written, or an interruption, after printing one sentence on stderr.
    Anything else is a defect of ours and keeps its traceback.
    """
    status = 1
    try:
        return run() or 0
    except InputError as error:
        message = str(error)
        status = 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output, such as `head`, has seen enough
            sys.stderr.close()
            return 1
        where = f": {error.filename}" if error.filename else ""
        message = f"{error.strerror or error}{where}."
    except KeyboardInterrupt:
        message = "Interrupted."
    except Exception as error:
        # safetensors and torch hide the system's error in texts of their own when a file cannot be written.
        if not any(sign in str(error) for sign in ("os error", "PytorchStreamWriter", "unexpected pos")):
            raise
        message = f"A file could not be written, perhaps because the disk is full ({str(error).splitlines()[0]})."
    print(f"error: {message}", file=sys.stderr)
    return status
