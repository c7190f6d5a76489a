"""
The thresholds of a classifier, fitted to its validation set: of label 1 of two, of every label where a text may have
several, and of the answers that are kept where there are more labels.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from ...utils.errors import InputError
from ..intervals import CONFIDENCE

FEWEST, RESAMPLES = 5, 200


class OutOfReach(InputError):
    """
    So few messages cannot promise such a precision.

    Attributes:
        reach: what they can promise at most, rounded down.
    """

    def __init__(self, precision: float, rows: str, reach: float, needed: str):
        digits = 100 if reach >= 0.01 else 10_000
        self.reach = float(np.floor(digits * reach) / digits)
        super().__init__(
            f"A precision of {precision:g} cannot be promised from {rows}, at most {self.reach:g}; it takes about"
            f" {needed} without a mistake."
        )


def ham_needed(precision: float, caught: float, prevalence: float) -> int:
    """
    How many ham messages, none of them taken for spam, promise this precision where the share `caught` of spam is
    caught: the upper bound of the share mistaken is then 1 - 0.05 ** (1 / n) (Clopper and Pearson 1934).
    """
    most_mistaken = min(prevalence * caught * (1 - precision) / (precision * (1 - prevalence)), 1 - 1e-9)
    return int(np.ceil(np.log(1 - CONFIDENCE) / np.log1p(-most_mistaken)))


def threshold_for_precision(
    probabilities: np.ndarray,
    labels: Sequence[int],
    precision: float,
    prevalence: float,
    names: Sequence[str] = ("ham", "spam"),
    unit: str = "messages",
) -> tuple[float, float]:
    """
    The threshold that catches the most spam of those whose precision, where the share `prevalence` of the messages is
    spam, is at least `precision`, the highest of several; and what that precision is at least. Of spam the share
    caught is taken as found; of ham the share taken for spam as high as it may be, with a confidence of 95 % (Clopper
    and Pearson 1934): a validation set has few mistakes to count. The `names` of label 0 and 1 and the `unit` are for
    messages.

    Raises:
        OutOfReach: when no threshold reaches it.
    """
    order = np.argsort(-probabilities)
    scores, is_spam = probabilities[order], np.asarray(labels, dtype=bool)[order]
    spam, ham = is_spam.sum(), (~is_spam).sum()
    # A threshold lies between two different scores, below the first of them.
    last = np.flatnonzero(np.diff(scores, append=0.0))
    caught, mistaken = np.cumsum(is_spam)[last] / spam, np.cumsum(~is_spam)[last]
    most_mistaken = np.where(mistaken < ham, beta.ppf(CONFIDENCE, mistaken + 1, np.maximum(ham - mistaken, 1)), 1.0)
    hits = prevalence * caught
    at_least = hits / (hits + (1 - prevalence) * most_mistaken)
    reached = np.flatnonzero(at_least >= precision)
    if not len(reached):
        without_mistake = caught[mistaken == 0].max(initial=0) or caught[at_least.argmax()]
        needed = ham_needed(precision, without_mistake, prevalence)
        rows = f"{spam} {names[1]} and {ham} {names[0]} validation {unit}"
        raise OutOfReach(precision, rows, float(at_least.max()), f"{needed:,} {names[0]} {unit}")
    best = reached[np.argmax(caught[reached])]  # the first of the same recall, so the highest threshold
    row = last[best]
    following = scores[row + 1] if row + 1 < len(scores) else 0.0
    return float((scores[row] + following) / 2), float(at_least[best])


def threshold_of_answers(confidence: np.ndarray, is_right: np.ndarray, precision: float) -> tuple[float, float]:
    """
    The threshold on the confidence that keeps the most answers of which at least the share `precision` is right, with
    a confidence of 95 % (Clopper and Pearson 1934; Geifman and El-Yaniv 2017 of such classifiers), and that share.

    Raises:
        OutOfReach: when no threshold reaches it.
    """
    order = np.argsort(-confidence)
    scores, right = confidence[order], np.cumsum(np.asarray(is_right, dtype=bool)[order])
    last = np.flatnonzero(np.diff(scores, append=-1.0))
    kept, right = last + 1, right[last]
    at_least = np.where(right > 0, beta.ppf(1 - CONFIDENCE, np.maximum(right, 1), kept - right + 1), 0.0)
    reached = np.flatnonzero(at_least >= precision)
    if not len(reached):
        needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log(precision)))
        rows = f"{len(scores)} validation texts"
        raise OutOfReach(precision, rows, float(at_least.max(initial=0)), f"{needed:,} answers")
    best = reached[-1]
    row = last[best]
    following = scores[row + 1] if row + 1 < len(scores) else 0.0
    return float((scores[row] + following) / 2), float(at_least[best])


def best_f1_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """
    The threshold with the highest F1: the median of those that are best, next to 0.5 where several are, when the texts
    have other weights each time (the Bayesian bootstrap, Rubin 1981), as the best one for few texts is much of chance.
    With fewer than `FEWEST` texts of the label it is 0.5.
    """
    if labels.sum() < FEWEST:
        return 0.5
    values = np.unique(probabilities)
    candidates = np.append((values[1:] + values[:-1]) / 2, 0.5)
    candidates = candidates[np.argsort(np.abs(candidates - 0.5))]
    order = np.argsort(probabilities)
    rows = np.searchsorted(probabilities[order], candidates, side="right")  # how many are not above it
    rng, best = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        weights = rng.standard_exponential(len(labels))
        said, right = (np.append(0, np.cumsum(one)) for one in (weights, weights * labels[order]))
        f1 = 2 * (right[-1] - right[rows]) / (right[-1] + said[-1] - said[rows])
        best.append(candidates[(f1 >= f1.max() - 1e-12).argmax()])
    return float(np.median(best))
