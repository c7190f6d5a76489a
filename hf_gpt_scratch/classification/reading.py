"""Texts that come one after the other, read ahead, so that those of similar length can be classified together."""

from collections.abc import Iterable, Iterator

from ..utils.errors import InputError

AT_FIRST, AT_MOST = 32, 1024  # texts
MOST_CHARACTERS = 1_000_000


def read_ahead(texts: Iterable[str], most_characters: int = MOST_CHARACTERS) -> Iterator[list[str]]:
    """
    The texts, some at a time: 32 at first, so that their answers come soon, then four times as many each time, up to
    1,024; fewer once they have so many characters. Where `texts` raises an `InputError`, those before it come first.
    """
    together, characters, most, failure = [], 0, AT_FIRST, None
    try:
        for text in texts:
            together.append(text)
            characters += len(text)
            if len(together) == most or characters >= most_characters:
                yield together
                together, characters, most = [], 0, min(4 * most, AT_MOST)
    except InputError as error:
        failure = error
    if together:
        yield together
    if failure:
        raise failure
