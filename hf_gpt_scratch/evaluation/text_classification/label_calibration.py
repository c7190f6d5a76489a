"""The calibration of a classifier of more than two labels, or of several a text, and its numbers."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import log_loss

from ...data.labelled_texts import OUTSIDE
from ...pipeline_gpt_scratch import Calibration
from ...utils.errors import InputError
from ...utils.result_card import Metric
from ..intervals import wilson
from ..metrics import Classification, top_label_calibration_error, top_labels
from .temperature import fit_label_temperature
from .thresholds import best_f1_threshold, threshold_for_precision, threshold_of_answers
from .verdicts import probabilities_of, said_of


def fit_labels(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str], precision: float | None = None
) -> tuple[Calibration, float | None]:
    """
    The calibration for logits `(N, K)`, and the precision that its thresholds keep.

    With one label a text the answer is the most probable label; a `precision` keeps those that are sure enough, by one
    threshold for all labels, and the others are answered as outside. With several a text, each label has a threshold
    of its own: that of the highest F1, or the one that keeps the precision.

    Args:
        labels: `(N,)`, or rows of 0 and 1, `(N, K)`, where a text may have several.

    Raises:
        InputError: when no text has one of several labels, for which a precision is to be kept.
        OutOfReach: when no threshold has the precision.
    """
    is_multi_label = labels.ndim == 2
    temperature = fit_label_temperature(logits, labels)
    as_they_are = Calibration(temperature, is_multi_label=is_multi_label)
    probabilities = probabilities_of(as_they_are, logits)
    if not is_multi_label:
        if precision is None:
            return as_they_are, None
        is_right, confidence = top_labels(labels, probabilities)
        threshold, promised = threshold_of_answers(confidence, is_right, precision)
        return Calibration(temperature, threshold=[threshold] * len(names)), promised
    columns = list(zip(probabilities.T, labels.T, names))
    if precision is None:
        found = [best_f1_threshold(scores, has_it) for scores, has_it, _ in columns]
        return Calibration(temperature, threshold=found, is_multi_label=True), None
    if missing := [name for _, has_it, name in columns if not has_it.any()]:
        raise InputError(
            f"No validation text has the label {missing[0]!r}, so no precision can be promised for it; omit"
            " --precision, or train on more texts of it."
        )
    pairs = [
        threshold_for_precision(scores, has_it, precision, has_it.mean(), (f"not {name}", name), "texts")
        for scores, has_it, name in columns
    ]
    found, promised = [threshold for threshold, _ in pairs], min(at_least for _, at_least in pairs)
    return Calibration(temperature, threshold=found, is_multi_label=True), promised


def label_metrics(
    calibration: Calibration, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> dict[str, Metric]:
    """
    The numbers of a calibrated classifier on texts of its labels. `answered` is the share of the texts that are not
    answered as outside, and `precision_of_answers` how many of those are right; all other numbers are of the most
    probable label of each text.
    """
    probabilities = probabilities_of(calibration, logits)
    said = said_of(calibration, probabilities)
    best = said if calibration.is_multi_label else probabilities.argmax(axis=-1)
    found = Classification(names, calibration.is_multi_label).compute(predictions=best, references=labels)
    metrics = {name: Metric(found[name], interval) for name, interval in found["intervals"].items()}
    first = ("micro_f1", "macro_f1") if calibration.is_multi_label else ("macro_f1", "accuracy", "mcc")
    metrics = {name: metrics[name] for name in (*first, *metrics)}
    if not calibration.is_multi_label:
        answered, right = said != OUTSIDE, said == labels
        metrics["answered"] = Metric(answered.mean(), wilson(answered.sum(), len(answered)))
        share = right.sum() / answered.sum() if answered.any() else 0.0
        metrics["precision_of_answers"] = Metric(float(share), wilson(right.sum(), answered.sum()))
    loss = _log_loss(labels, probabilities)
    error = top_label_calibration_error(labels, probabilities)
    return metrics | {
        "log_loss": Metric(loss, higher_is_better=False),
        "ece": Metric(error, higher_is_better=False),
    }


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean over the texts, and with several labels a text also over the labels."""
    if labels.ndim == 1:
        return float(log_loss(labels, probabilities, labels=range(probabilities.shape[1])))
    return float(log_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]))
