"""
The early verdict: after which word a verdict is as good as final. It is taken where the confidence passes a threshold,
which is fitted on the validation set for each of several agreements with the verdict on the whole text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...utils.result_card import Metric
from ..intervals import percentiles, wilson

AGREEMENTS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
RESAMPLES = 1000


@dataclass(frozen=True)
class Reading:
    """
    The verdicts on a text, word by word.

    Attributes:
        confidence: of the verdict after each word, `(W,)`.
        is_final: whether that verdict is the one on the whole text, `(W,)`.
        is_right: whether it is the text's own label, `(W,)`; the last one is that of the whole text.
    """

    confidence: np.ndarray
    is_final: np.ndarray
    is_right: np.ndarray

    def decided_at(self, threshold: float) -> int:
        """After how many words the confidence is above the threshold, or all of them."""
        is_sure = self.confidence > threshold
        return int(is_sure.argmax()) + 1 if is_sure.any() else len(self.confidence)


def fit_early_threshold(readings: Sequence[Reading], agreement: float) -> float:
    """
    The lowest threshold from which on, at every higher one too, the share `agreement` of the early verdicts is the
    one on the whole text.
    """
    # As a threshold rises past a record of the confidence, a text is decided at its next record, and past the last
    # one at its end, where it agrees.
    at, change, disagreeing = [], [], 0
    for reading in readings:
        highest = np.maximum.accumulate(reading.confidence)
        records = np.flatnonzero(np.diff(highest, prepend=0.0) > 0)
        disagrees = np.append(~reading.is_final[records], False).astype(int)
        disagreeing += disagrees[0]
        at.append(reading.confidence[records])
        change.append(np.diff(disagrees))
    at, change = np.concatenate(at), np.concatenate(change)
    if not len(at):
        return 0.0
    order = np.argsort(at)
    after = disagreeing + np.cumsum(change[order])  # how many disagree from this threshold on
    last = np.flatnonzero(np.append(np.diff(at[order]) > 0, True))  # of those of the same value
    steps = np.concatenate([[0.0], at[order][last]])
    too_many = np.concatenate([[disagreeing], after[last]]) > (1 - agreement) * len(readings) + 1e-9
    return float(steps[np.flatnonzero(too_many)[-1] + 1]) if too_many.any() else 0.0


@dataclass(frozen=True)
class EarlyVerdicts:
    """
    What early verdicts cost and save on the test set.

    Attributes:
        threshold: that the confidence after a word must be above.
        metrics: `agreement` with the verdict on the whole text, `error` (the share of the texts whose early verdict is
            not their label) and `words_read` (the share of all words).
    """

    threshold: float
    metrics: dict[str, Metric]

    def kept(self) -> dict[str, float]:
        """What config.json says of them."""
        return {"threshold": self.threshold, **{name: metric.value for name, metric in self.metrics.items()}}


def measure_early(threshold: float, readings: Sequence[Reading]) -> EarlyVerdicts:
    """With a threshold of at least 1, all words are read."""
    texts, words = len(readings), np.array([len(reading.confidence) for reading in readings])
    read = np.array([reading.decided_at(threshold) for reading in readings])
    agree = sum(bool(reading.is_final[at - 1]) for reading, at in zip(readings, read))
    wrong = sum(not reading.is_right[at - 1] for reading, at in zip(readings, read))
    times = np.random.default_rng(0).standard_exponential((RESAMPLES, texts))  # how much each text counts
    share = float(read.sum() / words.sum())
    metrics = {
        "agreement": Metric(agree / texts, wilson(agree, texts)),
        "error": Metric(wrong / texts, wilson(wrong, texts), higher_is_better=False),
        "words_read": Metric(share, percentiles(times @ read / (times @ words), share), higher_is_better=False),
    }
    return EarlyVerdicts(threshold, metrics)


def early_table(validation: Sequence[Reading], test: Sequence[Reading]) -> dict[str, EarlyVerdicts]:
    """For each of `AGREEMENTS`, by its name, the threshold by the validation set and what it does on the test set."""
    thresholds = {f"{agreement:g}": fit_early_threshold(validation, agreement) for agreement in AGREEMENTS}
    return {name: measure_early(threshold, test) for name, threshold in thresholds.items()}
