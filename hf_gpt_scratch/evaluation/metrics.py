"""Classification metrics for one positive class, each with its 95 % interval."""

import datasets
import evaluate
import numpy as np

from .intervals import percentiles, posterior, wilson


class BinaryClassification(evaluate.Metric):
    """
    Accuracy, precision, recall, F1 and Matthews' correlation of class 1 against class 0, as an `evaluate` metric that
    needs no download.

    `compute(predictions=..., references=...)` returns them by name, with `confusion_matrix` (rows are true classes,
    columns predicted ones) and `intervals`: Wilson's for the three proportions, and for F1 and MCC the percentiles of
    their values where the true shares of the matrix's four cells are drawn from a Dirichlet distribution.
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
        (tn, fp, fn, tp), total, drawn = four, sum(four), posterior(four, np.random.default_rng(0))
        f1, mcc = float(f1_score(*four)), float(matthews_correlation(*four))
        return {
            "accuracy": float(accuracy_score(*four)),
            "precision": float(precision_score(*four)),
            "recall": float(recall_score(*four)),
            "f1": f1,
            "mcc": mcc,
            "confusion_matrix": [[tn, fp], [fn, tp]],
            "intervals": {
                "accuracy": wilson(tp + tn, total),
                "precision": wilson(tp, tp + fp),
                "recall": wilson(tp, tp + fn),
                "f1": percentiles(f1_score(*drawn), f1),
                "mcc": percentiles(matthews_correlation(*drawn), mcc),
            },
        }


def counts(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> list:
    """True negatives, false positives, false negatives and true positives, from labels and predictions of 0 and 1."""
    return np.bincount(2 * labels + predictions, weights, minlength=4).tolist()


def accuracy_score(tn, fp, fn, tp):
    return _ratio(tp + tn, tn + fp + fn + tp)


def precision_score(tn, fp, fn, tp):
    return _ratio(tp, tp + fp)


def recall_score(tn, fp, fn, tp):
    return _ratio(tp, tp + fn)


def f1_score(tn, fp, fn, tp):
    return _ratio(2 * tp, 2 * tp + fp + fn)


def matthews_correlation(tn, fp, fn, tp):
    tn, fp, fn, tp = (np.asarray(count, dtype=float) for count in (tn, fp, fn, tp))  # products pass int64's limit
    # Multiplied in this order it is exactly 1 or -1 where it should be.
    return _ratio(tp * tn - fp * fn, np.sqrt(((tp + fp) * (tn + fn)) * ((tp + fn) * (tn + fp))))


def f1_difference(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[float, list[float]]:
    """
    The F1 of one model's predictions less that of another's of the same rows, and its interval: two models mostly err
    on the same rows, so that their own intervals would hide differences.
    """
    cells = np.bincount(4 * np.asarray(labels) + 2 * np.asarray(ours) + np.asarray(theirs), minlength=8)

    def difference(shares):
        label, first, second = np.unravel_index(np.arange(8), (2, 2, 2))
        mine, other = (
            f1_score(*(shares[(label == a) & (said == b)].sum(axis=0) for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))))
            for said in (first, second)
        )
        return mine - other

    value = float(difference(cells))
    return value, percentiles(difference(posterior(cells, np.random.default_rng(0))), value)


def _ratio(numerator, denominator):
    """The ratio, or 0 where there is nothing to divide by."""
    denominator = np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def bin_numbers(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """Which of `bins` bins of equal width, from 0 on, each probability is in; 1 is in the last."""
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def ece_by_chance(probabilities: np.ndarray, draws: int = 200) -> float:
    """
    The mean calibration error of labels that are drawn by the probabilities themselves: what chance alone makes of a
    model without any error.
    """
    rng, probabilities = np.random.default_rng(0), np.asarray(probabilities, dtype=float)
    drawn = (
        expected_calibration_error(rng.random(len(probabilities)) < probabilities, probabilities) for _ in range(draws)
    )
    return float(np.mean(list(drawn)))


def expected_calibration_error(labels, probabilities, weights=None, bins: int = 10) -> float:
    """
    How far the probabilities of class 1 lie from its share, averaged over `bins` bins of equal width, each with the
    weight of its rows (Naeini et al. 2015, for one class).
    """
    probabilities = np.asarray(probabilities, dtype=float)
    weights = np.ones(len(probabilities)) if weights is None else np.asarray(weights, dtype=float)
    errors = weights * (probabilities - np.asarray(labels))
    in_bins = np.bincount(bin_numbers(probabilities, bins), errors, minlength=bins)
    return float(np.abs(in_bins).sum() / weights.sum())
