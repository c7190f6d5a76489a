"""Classification metrics for one positive class, each with its 95 % interval."""

import datasets
import evaluate
import numpy as np

from .intervals import RESAMPLES, percentiles, wilson


class BinaryClassification(evaluate.Metric):
    """
    Accuracy, precision, recall, F1 and Matthews' correlation of class 1 against class 0, as an `evaluate` metric that
    needs no download.

    `compute(predictions=..., references=...)` returns them by name, with `confusion_matrix` (rows are true classes,
    columns predicted ones) and `intervals`: Wilson's for the three proportions, and for F1 and MCC the percentiles of
    a bootstrap over the messages.
    """

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references):
        four = counts(np.asarray(references), np.asarray(predictions))
        (tn, fp, fn, tp), total = four, sum(four)
        # A bootstrap over the messages, for numbers made of four counts, is a draw of those counts.
        draws = np.random.default_rng(0).multinomial(total, np.array(four) / total, size=RESAMPLES).T.astype(float)
        return {
            "accuracy": (tp + tn) / total,
            "precision": float(precision_score(*four)),
            "recall": float(recall_score(*four)),
            "f1": float(f1_score(*four)),
            "mcc": float(matthews_correlation(*four)),
            "confusion_matrix": [[tn, fp], [fn, tp]],
            "intervals": {
                "accuracy": wilson(tp + tn, total),
                "precision": wilson(tp, tp + fp),
                "recall": wilson(tp, tp + fn),
                "f1": percentiles(f1_score(*draws)),
                "mcc": percentiles(matthews_correlation(*draws)),
            },
        }


def counts(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> list:
    """True negatives, false positives, false negatives and true positives, from labels and predictions of 0 and 1."""
    return np.bincount(2 * labels + predictions, weights, minlength=4).tolist()


def precision_score(tn, fp, fn, tp):
    return _ratio(tp, tp + fp)


def recall_score(tn, fp, fn, tp):
    return _ratio(tp, tp + fn)


def f1_score(tn, fp, fn, tp):
    return _ratio(2 * tp, 2 * tp + fp + fn)


def matthews_correlation(tn, fp, fn, tp):
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _ratio(numerator, denominator):
    """The ratio, or 0 where there is nothing to divide by."""
    denominator = np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def expected_calibration_error(labels, probabilities, weights=None, bins: int = 10) -> float:
    """
    How far the probabilities of class 1 lie from its share, averaged over `bins` bins of equal width, each with the
    weight of its rows (Naeini et al. 2015, for one class).
    """
    probabilities = np.asarray(probabilities, dtype=float)
    weights = np.ones(len(probabilities)) if weights is None else np.asarray(weights, dtype=float)
    errors = weights * (probabilities - np.asarray(labels))
    in_bins = np.bincount(np.minimum((probabilities * bins).astype(int), bins - 1), errors, minlength=bins)
    return float(np.abs(in_bins).sum() / weights.sum())
