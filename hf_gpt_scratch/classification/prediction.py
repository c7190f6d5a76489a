"""What a classifier says of a text, and of it up to a word."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """
    What is said of a text.

    Attributes:
        label: the most probable label, or the calibration's `outside_label`.
        probability: that of label 1 with two labels (spam), else that of `label`; that of the most probable label
            where `label` is the outside one.
        truncated: whether the text is longer than the model reads, so that a part of it was not read.
        probabilities: of all labels, in their order.
        labels: one label; with several labels a text, all that are said; none where the text is outside.
        decided_at: after how many words the verdict was as good as final, where `decide_at` was asked and it was so
            before the end of the text.
        decided_label: the label then.
        words: what is said after each word, where that was asked.
    """

    text: str
    label: str
    probability: float
    truncated: bool
    probabilities: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    decided_at: int | None = None
    decided_label: str | None = None
    words: "tuple[WordReading, ...]" = ()

    @property
    def is_outside(self) -> bool:
        return not self.labels


@dataclass(frozen=True)
class WordReading:
    """
    What is said of a text up to a word.

    Attributes:
        word: with the space before it.
        probabilities: of all labels, in their order.
        label, probability, labels: as of a `Prediction`.
        confidence: how sure the verdict is (`Calibration.confidence`).
    """

    word: str
    probabilities: tuple[float, ...]
    label: str
    probability: float
    labels: tuple[str, ...]
    confidence: float

    @property
    def is_outside(self) -> bool:
        return not self.labels
