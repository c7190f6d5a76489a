"""Classification metrics, each with its 95 % interval: of one positive class, of several labels, of several a text."""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from scipy.stats import binomtest

from .intervals import percentiles, posterior, wilson
from .label_counts import LabelCounts, count_labels, count_several_labels, draw_counts, draw_f1, draw_several_counts


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


class Classification(evaluate.Metric):
    """
    The numbers of any labels as an `evaluate` metric that needs no download.

    `compute(predictions=..., references=...)` takes label numbers `(N,)` and returns `accuracy`, `macro_f1`,
    `macro_precision`, `macro_recall`, `mcc` (Gorodkin 2004) and `confusion_matrix` (rows are true labels, columns
    predicted ones). With several labels a text it takes rows of 0 and 1, `(N, K)`, and returns `micro_f1`,
    `micro_precision`, `micro_recall`, the three macro numbers and `subset_accuracy`, the share of the texts whose
    labels are all right.

    Both also have `per_class`, by name: `precision`, `recall`, `f1`, `support` and their `intervals`; and `intervals`
    of the rest: Wilson's of proportions, else percentiles of the values of shares drawn from their posterior, as
    `BinaryClassification`'s are. Macro numbers are means over the labels that the references or predictions have, as
    in scikit-learn.

    Args:
        names: of the K labels, in order.
        is_multi_label: whether a text may have several.
        with_intervals: without them it is fast enough for every evaluation of a training.
    """

    def __init__(self, names: Sequence[str], is_multi_label: bool = False, with_intervals: bool = True):
        self.names, self.is_multi_label, self.with_intervals = tuple(names), is_multi_label, with_intervals
        super().__init__(config_name="multilabel" if is_multi_label else "default")

    def _info(self):
        whole = datasets.Value("int64")
        rows = datasets.Sequence(whole) if self.is_multi_label else whole
        features = datasets.Features({"predictions": rows, "references": rows})
        return evaluate.MetricInfo(description=self.__doc__, citation="", features=features)

    def _compute(self, predictions, references):
        labels, said = np.asarray(references, dtype=int), np.asarray(predictions, dtype=int)
        if self.is_multi_label:
            found, right = count_several_labels(labels, said), (labels == said).all(axis=-1)
            result = {**_averages(found, "micro"), **_averages(found, "macro")}
            result["subset_accuracy"] = float(right.mean()) if len(right) else 0.0
        else:
            found, right = count_labels(labels, said, len(self.names)), labels == said
            result = {"accuracy": float(right.mean()) if len(right) else 0.0, **_averages(found, "macro")}
            result["mcc"] = float(multiclass_correlation(found))
            matrix = np.zeros((len(self.names), len(self.names)), dtype=int)
            np.add.at(matrix, (labels, said), 1)
        per_class = self._per_class(found)
        if self.with_intervals:
            result["intervals"] = self._intervals(result, per_class, found, labels, said)
        return (
            result | {"per_class": per_class} | ({} if self.is_multi_label else {"confusion_matrix": matrix.tolist()})
        )

    def _per_class(self, found: LabelCounts) -> dict[str, dict]:
        precision, recall, f1 = found.precision(), found.recall(), found.f1()
        rows = zip(self.names, precision.tolist(), recall.tolist(), f1.tolist(), found.support.tolist())
        return {
            name: {"precision": p, "recall": r, "f1": f, "support": int(support)} for name, p, r, f, support in rows
        }

    def _intervals(self, result: dict, per_class: dict, found: LabelCounts, labels, said) -> dict:
        """Of the result; those of single labels are put into `per_class`."""
        if self.is_multi_label:
            drawn, is_right = draw_several_counts(labels, said), (labels == said).all(axis=-1)
        else:
            [drawn], is_right = draw_counts(labels, [said], len(self.names)), labels == said
        rng = np.random.default_rng(0)
        for row, right, support, predicted in zip(per_class.values(), found.right, found.support, found.predicted):
            row["intervals"] = {
                "precision": wilson(right, predicted),
                "recall": wilson(right, support),
                "f1": percentiles(draw_f1(right, support, predicted, rng), row["f1"]) if support + predicted else None,
            }
        share = "subset_accuracy" if self.is_multi_label else "accuracy"
        averages = {name: score for how in ("macro", "micro") for name, score in _averages(drawn, how).items()}
        averages["mcc"] = None if self.is_multi_label else multiclass_correlation(drawn)
        return {
            name: wilson(int(is_right.sum()), len(is_right)) if name == share else percentiles(averages[name], value)
            for name, value in result.items()
        }


def _averages(found: LabelCounts, how: str) -> dict:
    """Macro or micro F1, precision and recall, floats or, of drawn counts, arrays of the draws."""
    scores = {"f1": found.f1(how), "precision": found.precision(how), "recall": found.recall(how)}
    return {f"{how}_{name}": float(score) if np.ndim(score) == 0 else score for name, score in scores.items()}


def multiclass_correlation(found: LabelCounts):
    """Matthews' correlation for any number of labels (Gorodkin 2004), 0 where it is not defined."""
    total, right = found.support.sum(axis=0), found.right.sum(axis=0)
    together = (found.support * found.predicted).sum(axis=0)
    spread = [total * total - (of * of).sum(axis=0) for of in (found.support, found.predicted)]
    return _ratio(right * total - together, np.sqrt(np.maximum(spread[0] * spread[1], 0)))


def macro_f1_difference(labels, ours, theirs, n_labels: int | None = None) -> tuple[float, list[float]]:
    """
    The macro F1 of one model's predictions less that of another's of the same rows, and its interval, as
    `f1_difference` has it for two labels. Label numbers are `(N,)`, with the number of labels; rows of 0 and 1, where
    a text may have several, `(N, K)`.
    """
    labels, both = np.asarray(labels, dtype=int), [np.asarray(said, dtype=int) for said in (ours, theirs)]
    if labels.ndim == 2:
        mine, other = (count_several_labels(labels, said).f1("macro") for said in both)
        drawn = [draw_several_counts(labels, said) for said in both]  # the same seed, so the same rows
    else:
        mine, other = (count_labels(labels, said, n_labels).f1("macro") for said in both)
        drawn = draw_counts(labels, both, n_labels)
    value = float(mine - other)
    return value, percentiles(drawn[0].f1("macro") - drawn[1].f1("macro"), value)


def mcnemar(ours_right: np.ndarray, theirs_right: np.ndarray) -> dict:
    """McNemar's exact test of two models: how many rows only one of them judges rightly, and the p-value."""
    only_ours, only_theirs = int((ours_right & ~theirs_right).sum()), int((theirs_right & ~ours_right).sum())
    trials = only_ours + only_theirs
    p_value = float(binomtest(only_ours, trials).pvalue) if trials else 1.0
    return {"only_ours_right": only_ours, "only_theirs_right": only_theirs, "p_value": p_value}


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


def top_label_calibration_error(labels: np.ndarray, probabilities: np.ndarray, weights=None, bins: int = 10) -> float:
    """
    How far the highest probability lies from the share of texts whose label it is (Guo et al. 2017), for probabilities
    `(N, K)`. Where a text may have several labels (rows of 0 and 1, `(N, K)`), every label's probability counts.
    """
    return expected_calibration_error(*top_labels(labels, probabilities), weights, bins)


def top_labels(labels, probabilities) -> tuple[np.ndarray, np.ndarray]:
    """
    Whether each winner is right, and its probability: `(N,)` each. Where a text may have several labels, every label
    and its probability: `(N * K,)` each.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if labels.ndim == 2:
        return labels.reshape(-1), probabilities.reshape(-1)
    return (probabilities.argmax(axis=-1) == labels).astype(int), probabilities.max(axis=-1)
