"""The console: output that it cannot show, and old modules that start the console script."""

import codecs
import io
import runpy
import sys

ESCAPES = "hf_gpt_scratch.escapes"  # the name of `_escape` among the error handlers of codecs
LOSSLESS = ("strict", "surrogateescape")


def never_fail_to_print() -> None:
    """
    Lets this process print any text on a terminal or into a pipe that is not UTF-8: characters outside of the
    encoding are written as in JSON, such as \\u20ac, so that JSON lines say the same.
    """
    codecs.register_error(ESCAPES, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in LOSSLESS:
            stream.reconfigure(errors=ESCAPES)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = []
    for character in error.object[error.start : error.end]:
        units = character.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
        written.append("".join(f"\\u{unit}" for unit in units))
    return "".join(written), error.end


def bar(length: int) -> str:
    """A bar of so many characters, of `#` where standard output cannot show blocks."""
    try:
        "\u2588".encode(sys.stdout.encoding or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return "#" * length
    return "\u2588" * length


def run_command(name: str) -> None:
    """
    Ends this program as `hf-gpt-scratch NAME` with its arguments. The script is run by its name, as by a shell, and
    not imported: this package imports nothing from outside it.
    """
    sys.argv = ["hf-gpt-scratch", name, *sys.argv[1:]]
    runpy.run_module("hf_gpt_scratch_cli", run_name="__main__")
