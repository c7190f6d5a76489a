"""What is typed or piped in, as it comes; keeping the libraries' own output off the terminal."""

import codecs
import io
from collections.abc import Iterator
from typing import TextIO


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
