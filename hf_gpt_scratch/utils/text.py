"""Characters that are not text, and what is left of a text without its punctuation."""

import re

SURROGATE = re.compile("[\ud800-\udfff]")


def has_lone_surrogates(text: str) -> bool:
    """Whether it holds bytes that Python could not decode, as arguments from a shell may."""
    return bool(SURROGATE.search(text))


def plain_words(text: str) -> str:
    """The words in lower case, without punctuation, which copies of a text share; of mere symbols, the text."""
    return re.sub(r"[\W_]+", " ", text.lower()).strip() or text
