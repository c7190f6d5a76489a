"""How often each of K labels was there, was predicted and was predicted rightly, as counted or as drawn shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

DRAWS, FEWER_DRAWS, MANY_LABELS, AT_ONCE = 10_000, 2_000, 50, 500


@dataclass(frozen=True)
class LabelCounts:
    """
    `(K,)` each, or `(K, draws)`.

    Attributes:
        right: how often a label was predicted and there.
        support: how often it was there.
        predicted: how often it was predicted.
        is_present: whether it was there or predicted, `(K,)`: macro numbers are means over these.
    """

    right: np.ndarray
    support: np.ndarray
    predicted: np.ndarray
    is_present: np.ndarray

    def precision(self, average: str | None = None):
        """Of each label, or the `macro` or `micro` average."""
        return self._score(self.right, self.predicted, average)

    def recall(self, average: str | None = None):
        return self._score(self.right, self.support, average)

    def f1(self, average: str | None = None):
        return self._score(2 * self.right, self.support + self.predicted, average)

    def _score(self, numerator, denominator, average):
        if average == "micro":
            numerator, denominator = numerator.sum(axis=0), denominator.sum(axis=0)
        denominator = np.asarray(denominator, dtype=float)
        scores = np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
        if average != "macro":
            return scores
        return scores[self.is_present].mean(axis=0) if self.is_present.any() else scores.mean(axis=0)


def count_labels(labels: np.ndarray, said: np.ndarray, n_labels: int, weights=None) -> LabelCounts:
    """From label numbers `(N,)`, each row once or `weights` times."""
    times = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=float)
    right = labels == said
    counted = (
        np.bincount(labels[right], times[right], minlength=n_labels),
        np.bincount(labels, times, minlength=n_labels),
        np.bincount(said, times, minlength=n_labels),
    )
    return LabelCounts(*counted, is_present=counted[1] + counted[2] > 0)


def count_several_labels(labels: np.ndarray, said: np.ndarray, weights=None) -> LabelCounts:
    """From rows of 0 and 1, `(N, K)`, each once or `weights` times."""
    times = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=float)
    counted = times @ (labels * said), times @ labels, times @ said
    return LabelCounts(*counted, is_present=counted[1] + counted[2] > 0)


def draw_counts(labels: np.ndarray, models: Sequence[np.ndarray], n_labels: int, seed: int = 0) -> list[LabelCounts]:
    """
    Draws of the counts of each model, for all models of the same rows, from label numbers `(N,)`.

    The rows' shares are drawn from their posterior. Its prior has one row for the right and one for the wrong answers,
    spread over the labels, the wrong ones taken for any other label: so it is never certain that an error which was
    not seen does not exist. For two labels it is Jeffreys', half a row for each cell of the confusion matrix.
    """
    rng, draws = np.random.default_rng(seed), DRAWS if n_labels <= MANY_LABELS else FEWER_DRAWS
    cells, times = np.unique(np.stack([labels, *models]), axis=1, return_counts=True)
    present = [np.isin(np.arange(n_labels), [*labels, *said]) for said in models]
    rows = np.flatnonzero(np.any(present, axis=0))
    outcomes = np.array(list(product((True, False), repeat=len(models))))  # which of the models are right
    prior_labels, prior_right = np.repeat(rows, len(outcomes)), np.tile(outcomes, (len(rows), 1))
    true, parts = np.concatenate([cells[0], prior_labels]), []
    shape = np.concatenate([times, np.full(len(prior_labels), 1 / n_labels)])[:, None]
    for start in range(0, draws, AT_ONCE):
        size = min(AT_ONCE, draws - start)
        shares = rng.gamma(shape, size=(len(shape), size))
        shares /= shares.sum(axis=0)
        other = (prior_labels[:, None] + rng.integers(1, n_labels, (len(prior_labels), size))) % n_labels
        parts.append(
            [_drawn(true, said, prior_right[:, m], other, shares, n_labels) for m, said in enumerate(cells[1:])]
        )
    return [
        LabelCounts(*(np.concatenate(part, axis=1) for part in zip(*one)), is_present=here)
        for one, here in zip(zip(*parts), present)
    ]


def _drawn(true, said, prior_right, other, shares, n_labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is right, there and predicted of each label, `(n_labels, draws)`."""
    draws = shares.shape[1]
    prior_said = np.where(prior_right[:, None], true[len(said) :, None], other)
    columns = np.concatenate([np.repeat(said[:, None], draws, axis=1), prior_said])
    is_right = np.concatenate([said == true[: len(said)], prior_right])
    where = [
        (np.repeat(true[is_right, None], draws, axis=1), shares[is_right]),
        (np.repeat(true[:, None], draws, axis=1), shares),
        (columns, shares),
    ]
    return tuple(
        np.bincount((rows * draws + np.arange(draws)).ravel(), values.ravel(), minlength=n_labels * draws).reshape(
            n_labels, draws
        )
        for rows, values in where
    )


def draw_several_counts(labels: np.ndarray, said: np.ndarray, seed: int = 0) -> LabelCounts:
    """
    Draws of the counts from rows of 0 and 1, `(N, K)`: the rows' weights by the Bayesian bootstrap (Rubin 1981), which
    keeps together the labels of a row, and a prior as that of `draw_counts`.
    """
    rng, n_labels, parts = np.random.default_rng(seed), labels.shape[1], []
    prior = min(0.5, 1 / n_labels)
    for _ in range(0, FEWER_DRAWS, AT_ONCE):
        weights = rng.standard_exponential((AT_ONCE, len(labels)))
        both, only_there, only_said = (rng.gamma(prior, size=(AT_ONCE, n_labels)) for _ in range(3))
        right = weights @ (labels * said) + both
        parts.append([right, weights @ labels + both + only_there, weights @ said + both + only_said])
    drawn = (np.concatenate(part).T for part in zip(*parts))
    return LabelCounts(*drawn, is_present=(labels + said).any(axis=0))


def draw_f1(right: float, support: float, predicted: float, rng: np.random.Generator) -> np.ndarray:
    """Draws of the F1 of one label, by Jeffreys' prior, as of `BinaryClassification`'s."""
    right, missed, mistaken = (
        rng.gamma(count + 0.5, size=FEWER_DRAWS) for count in (right, support - right, predicted - right)
    )
    return 2 * right / (2 * right + missed + mistaken)
