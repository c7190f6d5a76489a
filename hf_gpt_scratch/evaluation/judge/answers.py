"""The outcome of a question to the judge: an answer, or why it gave none."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What the judge said, its value (`None` where it is unparsable), and what else is known of it."""

    text: str
    value: float | None
    details: dict = field(default_factory=dict)


def whole_characters(text: str) -> str:
    """`text` with a replacement character for each half of one (`"\\ud83d"` in JSON), which cannot be written."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class NoAnswer(Exception):
    """
    The judge gave no answer to a question, and the message says why: `answered with the HTTP status 500`.

    Attributes:
        retry: whether asking again may help.
        fatal: whether every other question will fail too.
        status: of HTTP, where there is one.
        wait: the seconds that the server asks to wait.
        late: whether the answer took too long.
        said: all that the server said.
    """

    def __init__(
        self,
        message: str,
        retry: bool = False,
        fatal: bool = False,
        status: int | None = None,
        wait: float | None = None,
        late: bool = False,
        said: str = "",
    ):
        super().__init__(message)
        self.said = said
        self.retry, self.fatal, self.status, self.wait, self.late = retry, fatal, status, wait, late
