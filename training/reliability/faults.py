"""
What the parts of the report on reliability share: the settings they get and the rows they give.

A part is a module here with `rows(settings)`, which does to a subject what should not happen to it, again and again,
and yields a `Row` for each fault and subject. It asserts nothing: what was lost or executed is counted.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """`folder` is an empty one to work in; `tries` is how often each fault is tried, `None` for the part's number."""

    folder: Path
    seed: int = 123
    quick: bool = False
    tries: int | None = None
    subjects: tuple[str, ...] = ()  # only those whose name has one of these words; none for all

    def of(self, subject: str) -> bool:
        """Whether `subject` is one of those asked for."""
        return not self.subjects or any(word in subject for word in self.subjects)


@dataclass(frozen=True)
class Row:
    """
    A line of the table. A try is survived where it ended as it should: as if nothing had happened, or in one sentence
    with everything as it was. It is lost where something was lost or wrong. Where code of a stranger could have run,
    `executed` is how often it did.
    """

    fault: str
    subject: str
    tries: int
    survived: int
    lost: int = 0
    executed: int | None = None
    note: str = ""

    @property
    def is_good(self) -> bool:
        return self.survived == self.tries and not self.lost and not self.executed
