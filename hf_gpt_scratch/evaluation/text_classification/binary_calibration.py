"""The calibration of a classifier that tells label 1 from label 0, and its numbers."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import logit
from sklearn.metrics import log_loss

from ...pipeline_gpt_scratch import Calibration
from ...utils.result_card import Metric
from ..intervals import percentiles, posterior, wilson
from ..metrics import (
    BinaryClassification,
    accuracy_score,
    expected_calibration_error,
    f1_score,
    matthews_correlation,
    precision_score,
)
from .temperature import fit_temperature
from .thresholds import threshold_for_precision


def fit(
    log_odds: np.ndarray,
    labels: Sequence[int],
    prevalence: float,
    precision: float | None = None,
    names: Sequence[str] = ("ham", "spam"),
    unit: str = "messages",
) -> tuple[Calibration, float | None]:
    """
    The calibration for texts of which the share `prevalence` is of label 1 (spam), and the precision that its
    threshold keeps; without a `precision` to keep the threshold is 0.5. The `names` of both labels and the `unit` are
    for messages.

    Raises:
        OutOfReach: when no threshold has the precision.
    """
    shift = float(logit(prevalence) - logit(np.mean(labels)))
    calibration = Calibration(fit_temperature(log_odds, labels), shift)
    if precision is None:
        return calibration, None
    probabilities = calibration.of_log_odds(torch.from_numpy(log_odds)).numpy()
    threshold, promised = threshold_for_precision(probabilities, labels, precision, prevalence, names, unit)
    return Calibration(calibration.temperature, shift, threshold), promised


def metrics_at(
    threshold: float, probabilities: np.ndarray, labels: Sequence[int], prevalence: float | None = None
) -> dict[str, Metric]:
    """
    The numbers of a classifier with this threshold: of the messages as they are, with the intervals of
    `metrics.BinaryClassification` as everywhere; or as if the share `prevalence` of them were spam. Intervals are then
    of numbers made of the shares of spam caught and ham mistaken, each drawn from its posterior.
    """
    labels = np.asarray(labels)
    if prevalence is None:
        return _as_they_are(threshold, probabilities, labels)
    spam, ham = int((labels == 1).sum()), int((labels == 0).sum())
    caught = int((probabilities[labels == 1] > threshold).sum())
    mistaken = int((probabilities[labels == 0] > threshold).sum())

    def cells(caught, mistaken):
        """True negatives, false positives, false negatives and true positives as shares of all messages."""
        ham = 1 - prevalence
        return ham * (1 - mistaken), ham * mistaken, prevalence * (1 - caught), prevalence * caught

    found, rng = cells(caught / spam, mistaken / ham), np.random.default_rng(0)
    drawn = cells(posterior([caught, spam - caught], rng)[0], posterior([mistaken, ham - mistaken], rng)[0])

    def metric(score) -> Metric:
        value = float(score(*found))
        return Metric(value, percentiles(score(*drawn), value))

    weights = np.where(labels == 1, prevalence / spam, (1 - prevalence) / ham)
    return {
        "f1": metric(f1_score),
        "precision": metric(precision_score),
        "recall": Metric(caught / spam, wilson(caught, spam)),
        "mcc": metric(matthews_correlation),
        "accuracy": metric(accuracy_score),
        "false_positive_rate": Metric(mistaken / ham, wilson(mistaken, ham), higher_is_better=False),
        "log_loss": Metric(float(log_loss(labels, probabilities, sample_weight=weights)), higher_is_better=False),
        "ece": Metric(expected_calibration_error(labels, probabilities, weights), higher_is_better=False),
    }


def _as_they_are(threshold: float, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Metric]:
    said, ham = (probabilities > threshold).astype(int), int((labels == 0).sum())
    found = BinaryClassification().compute(predictions=said, references=labels)
    mistaken = found["confusion_matrix"][0][1]
    names = ("f1", "precision", "recall", "mcc", "accuracy")
    return {name: Metric(found[name], found["intervals"][name]) for name in names} | {
        "false_positive_rate": Metric(mistaken / ham, wilson(mistaken, ham), higher_is_better=False),
        "log_loss": Metric(float(log_loss(labels, probabilities)), higher_is_better=False),
        "ece": Metric(expected_calibration_error(labels, probabilities), higher_is_better=False),
    }
