"""The one exception that stands for "the input is wrong": its message is a sentence for the user."""

import errno
import sys
from collections.abc import Callable


class InputError(ValueError):
    """A file, a folder, a text or a setting cannot be used; the message says what is wrong and what to do."""


def run_reporting_errors(run: Callable[[], int | None]) -> int:
    """
    Calls `run` and returns the exit status of the program: 0, or what `run` returned, or 1 after printing one sentence
    on stderr for a wrong input, a file that cannot be read or written, or an interruption. Anything else is a defect
    of ours and keeps its traceback.
    """
    try:
        return run() or 0
    except InputError as error:
        message = str(error)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output, such as `head`, has seen enough
            sys.stderr.close()
            return 1
        where = f" ({error.filename})" if error.filename else ""
        message = f"{error.strerror or error}{where}; nothing was left half-written."
    except KeyboardInterrupt:
        message = "Interrupted."
    print(f"error: {message}", file=sys.stderr)
    return 1
