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
    a bootstrap over the messages, which for numbers made of four counts is a draw of those counts.
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
        predictions, references = np.asarray(predictions), np.asarray(references)
        matrix = np.zeros((2, 2), dtype=int)
        np.add.at(matrix, (references, predictions), 1)
        (tn, fp), (fn, tp) = matrix.tolist()
        total = matrix.sum()
        draws = np.random.default_rng(0).multinomial(total, matrix.ravel() / total, size=RESAMPLES)
        draws = draws.T.astype(float)  # tn, fp, fn, tp: (4, RESAMPLES)
        return {
            "accuracy": (tp + tn) / int(total),
            "precision": tp / (tp + fp) if tp + fp else 0.0,
            "recall": tp / (tp + fn) if tp + fn else 0.0,
            "f1": float(_f1(tn, fp, fn, tp)),
            "mcc": float(_mcc(tn, fp, fn, tp)),
            "confusion_matrix": matrix.tolist(),
            "intervals": {
                "accuracy": wilson(tp + tn, int(total)),
                "precision": wilson(tp, tp + fp),
                "recall": wilson(tp, tp + fn),
                "f1": percentiles(_f1(*draws)),
                "mcc": percentiles(_mcc(*draws)),
            },
        }


def _f1(tn, fp, fn, tp):
    denominator = np.asarray(2 * tp + fp + fn, dtype=float)
    return np.divide(2 * tp, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def _mcc(tn, fp, fn, tp):
    denominator = np.sqrt(np.asarray((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn), dtype=float))
    return np.divide(tp * tn - fp * fn, denominator, out=np.zeros_like(denominator), where=denominator > 0)


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
