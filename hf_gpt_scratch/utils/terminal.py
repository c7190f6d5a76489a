"""
What is typed or piped in, as it comes; what comes from files and models, printed without power over the terminal;
keeping the libraries' own output off it.

A terminal obeys control sequences in whatever is printed: they move the cursor, hide text, and put text on the
clipboard (OSC 52). Bidi overrides show characters in another order than they have. Neither is needed to read a text.
"""

import codecs
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

# ECMA-48, with 7 bits (ESC and a character) and 8 (the C1 characters)
CSI = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
# Such as OSC; none holds another's beginning, else a text full of them would be looked through once for each.
STRING_BEGUN = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*"
STRING = rf"{STRING_BEGUN}(?:\x07|\x1b\\|\x9c)"
ESCAPE = r"\x1b[ -/]*[0-~]"
SEQUENCE = re.compile(f"{CSI}|{STRING}|{ESCAPE}")
BREAKS = re.compile(r"[\x0b\x0c\x85]|\r(?!\n)")  # which part words
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What may become a sequence by what is printed next
BEGUN = re.compile(rf"(?:\r|\x1b[ -/]*|(?:\x1b\[|\x9b)[0-?]*[ -/]*|{STRING_BEGUN}\x1b?)\Z")
LONGEST = 256  # characters that are held back of one
COLOUR = re.compile(r"\x1b\[(?:0|2|3[1-6])m")  # our own, on a terminal
BAR = re.compile(r"\r|(?:\n|\x1b\[A)+\Z")  # what tqdm writes to stderr begins so, or moves a line up


def plain(text: str) -> str:
    """
    The text without control sequences, control characters but for line ends and tabs, and bidi overrides. What only
    begins a sequence loses its power and stays as text.
    """
    return CONTROL.sub("", BREAKS.sub(" ", SEQUENCE.sub("", text)))


def plain_line(text: str) -> str:
    """The same on one line and without tabs: a name, in a line or a table of others."""
    return " ".join(re.split(r"[\n\t\u2028\u2029]+", plain(text))).strip()


def json_line(value) -> str:
    """The value as JSON on a line, in which whatever `plain` would take away is escaped: it can be read again."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


class PlainOutput:
    """
    A stream to print on, which writes what `plain` leaves; a sequence that comes in pieces, as a model's tokens, is
    one. On a terminal our own colours stay, and on stderr progress bars.
    """

    def __init__(self, stream: TextIO, with_bars: bool = False):
        self._stream, self._with_bars, self._begun = stream, with_bars, ""

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self._with_bars and BAR.match(text):
            self._stream.write("\r".join(map(plain, text.split("\r"))) if text[0] == "\r" else text)
            return len(text)
        whole = self._begun + text
        begun = BEGUN.search(whole, max(0, len(whole) - LONGEST))
        self._begun = begun[0] if begun else ""
        self._write(whole[: len(whole) - len(self._begun)])
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def end(self) -> None:
        """Writes what was held back, since no more comes."""
        begun, self._begun = self._begun, ""
        self._write(begun)

    def _write(self, text: str) -> None:
        if self._stream.isatty():
            parts, colours = COLOUR.split(text), [*COLOUR.findall(text), ""]
            text = "".join(plain(part) + colour for part, colour in zip(parts, colours))
        else:
            text = plain(text)
        if text:
            self._stream.write(text)


@contextmanager
def plain_output() -> Iterator[None]:
    """Whatever is printed in the block goes through `PlainOutput`."""
    if isinstance(sys.stdout, PlainOutput):
        yield
        return
    out, err = PlainOutput(sys.stdout), PlainOutput(sys.stderr, with_bars=True)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.end()
            err.end()


def quieten_transformers() -> None:
    """Silences their warnings and progress bars: problems are told in our own sentences."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # else a line for each attempt to connect


def lines_that_came(source: TextIO) -> Iterator[list[str]]:
    """
    The lines of standard input, without their ends, as many at a time as have come, at most those of 64 KB: what is
    typed, or sent by a program that waits for its answer, comes at once.

    Raises:
        UnicodeDecodeError: where it is not text in the encoding of `source`; the lines before come first.
    """
    binary = getattr(source, "buffer", None) or io.BytesIO(source.read().encode(source.encoding or "utf-8"))
    decoder = codecs.getincrementaldecoder(source.encoding or "utf-8")(source.errors or "strict")
    text = io.IncrementalNewlineDecoder(decoder, translate=True)
    rest = ""  # of a line whose end has not come
    while data := binary.read1(1 << 16):
        fault = None
        try:
            new = text.decode(data)
        except UnicodeDecodeError as error:
            fault, new = error, error.object[: error.start].decode(error.encoding).replace("\r\n", "\n")
        *lines, rest = (rest + new).split("\n")
        if lines:
            yield lines
        if fault:
            raise fault
    if rest := rest + text.decode(b"", final=True):
        yield [rest.removesuffix("\n")]
