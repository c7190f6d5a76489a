"""The temperature that divides a classifier's logits so that its probabilities fit the labels (Guo et al. 2017)."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(log_odds: np.ndarray, labels: Sequence[int]) -> float:
    """
    The temperature at which the labels are likeliest (Guo et al. 2017, section 4.2), for log-odds `(N,)`, from 0.05
    to 20. Labels count as a little less than certain, the less the more there are (Platt 1999): a model without a
    mistake on these rows may still make one on the next.
    """
    labels = np.asarray(labels)
    return _likeliest(lambda temperature: _binary_loss(log_odds / temperature, _platt_targets(labels)))


def fit_label_temperature(logits: np.ndarray, labels: Sequence) -> float:
    """
    The same for logits `(N, K)` of more than two labels, `(N,)`, or of several a text, rows of 0 and 1, `(N, K)`. The
    true label of N texts counts as (N + 1) / (N + 2), the others share the rest; of several, each label as of two.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        targets = np.apply_along_axis(_platt_targets, 0, labels)
        return _likeliest(lambda temperature: _binary_loss(logits / temperature, targets))
    n, n_labels = logits.shape
    targets = np.full(logits.shape, 1 / (n + 2) / (n_labels - 1))
    targets[np.arange(n), labels] = (n + 1) / (n + 2)
    return _likeliest(lambda temperature: -(targets * log_softmax(logits / temperature, axis=-1)).sum() / n)


def _likeliest(loss: Callable[[float], float]) -> float:
    bounds = (np.log(LOWEST), np.log(HIGHEST))
    return float(np.exp(minimize_scalar(lambda log: loss(np.exp(log)), bounds=bounds, method="bounded").x))


def _platt_targets(labels: np.ndarray) -> np.ndarray:
    ones, zeros = (labels == 1).sum(), (labels == 0).sum()
    return np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))


def _binary_loss(scores: np.ndarray, targets: np.ndarray) -> float:
    return (targets * np.logaddexp(0, -scores) + (1 - targets) * np.logaddexp(0, scores)).mean()
