"""Characters that are not text."""


def has_lone_surrogates(text: str) -> bool:
    """Whether it holds bytes that Python could not decode, as arguments from a shell may."""
    return any("\ud800" <= character <= "\udfff" for character in text)
