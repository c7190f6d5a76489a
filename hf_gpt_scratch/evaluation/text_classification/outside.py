"""
The "outside my topics" answer: a threshold on the highest probability, fitted to texts of labels that the model was
not trained on, and what it is worth on others of them.
"""

from dataclasses import dataclass

import numpy as np

from ...utils.result_card import Metric
from ..intervals import percentiles, wilson

RESAMPLES = 1000
REFUSE = 0.1


def fit_outside_threshold(inside: np.ndarray, outside: np.ndarray, refuse: float = REFUSE) -> float:
    """
    The threshold on the highest probability, at or below which a text is told to be outside. Of those that refuse at
    most the share `refuse` of the inside texts it maximises the share of outside texts told less that of inside texts
    refused (Youden 1950); of several it is the lowest, which refuses the fewest.

    Args:
        inside: the highest probabilities of the texts of the model's labels, `(N,)`.
        outside: those of the other texts, `(M,)`.
    """
    values = np.unique(np.concatenate([inside, outside]))
    candidates = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    told = np.searchsorted(np.sort(outside), candidates, side="right") / len(outside)
    refused = np.searchsorted(np.sort(inside), candidates, side="right") / len(inside)
    return float(candidates[np.where(refused <= refuse, told - refused, -1.0).argmax()])


@dataclass(frozen=True)
class OutsideTexts:
    """
    What the threshold does on the test set.

    Attributes:
        threshold: at or below which the highest probability is outside.
        told, texts: how many outside texts are told, of how many.
        refused, inside_texts: how many inside texts are refused, of how many.
        metrics: the same as shares, and `auroc`, with intervals.
    """

    threshold: float
    told: int
    texts: int
    refused: int
    inside_texts: int
    metrics: dict[str, Metric]


def measure_outside(
    threshold: float,
    inside: np.ndarray,
    outside: np.ndarray,
    is_right: np.ndarray,
    inside_said: np.ndarray | None = None,
    outside_said: np.ndarray | None = None,
) -> OutsideTexts:
    """
    Of the highest probabilities of test texts.

    Args:
        is_right: whether the answer to each inside text is its label, `(N,)`.
        inside_said, outside_said: whether each text is answered as outside; by default where its highest probability
            is at or below the threshold.
    """
    inside_said = inside <= threshold if inside_said is None else inside_said
    outside_said = outside <= threshold if outside_said is None else outside_said
    told, refused, answered = int(outside_said.sum()), int(inside_said.sum()), int((~inside_said).sum())
    right = int((is_right & ~inside_said).sum())
    metrics = {
        "outside_told": Metric(told / len(outside), wilson(told, len(outside))),
        "inside_refused": Metric(refused / len(inside), wilson(refused, len(inside)), higher_is_better=False),
        "auroc": auroc(inside, outside),
        "accuracy_of_answers": Metric(right / answered if answered else 0.0, wilson(right, answered)),
    }
    return OutsideTexts(threshold, told, len(outside), refused, len(inside), metrics)


def auroc(inside: np.ndarray, outside: np.ndarray) -> Metric:
    """How often an inside text has the higher of two highest probabilities, with a bootstrap's interval."""
    outside, rng = np.sort(outside), np.random.default_rng(0)
    below, not_above = (np.searchsorted(outside, inside, side=side) for side in ("left", "right"))

    def shares(of_inside: np.ndarray, of_outside: np.ndarray) -> np.ndarray:
        """From weights `(draws, N)` and `(draws, M)`; equal ones count by half."""
        lower = np.pad(np.cumsum(of_outside, axis=1), ((0, 0), (1, 0)))
        won = (of_inside * (lower[:, below] + lower[:, not_above]) / 2).sum(axis=1)
        return won / (of_inside.sum(axis=1) * of_outside.sum(axis=1))

    value = float(shares(np.ones((1, len(inside))), np.ones((1, len(outside))))[0])
    weights = (rng.standard_exponential((RESAMPLES, len(rows))) for rows in (inside, outside))
    return Metric(value, percentiles(shares(*weights), value))
