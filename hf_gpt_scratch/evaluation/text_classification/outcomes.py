"""What classifiers say of the test texts of a run, ours and linear ones, and the numbers of that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from ...data.labelled_texts import normalize
from ...pipeline_gpt_scratch import Calibration
from ..label_counts import count_labels, count_several_labels
from ..metrics import (
    accuracy_score,
    counts,
    ece_by_chance,
    expected_calibration_error,
    f1_score,
    matthews_correlation,
    multiclass_correlation,
    precision_score,
    recall_score,
    top_label_calibration_error,
)
from .baselines import CLASSIFIERS, said_by_scores, scores_by_model
from .runs import ClassifierRun
from .temperature import fit_label_temperature
from .verdicts import probabilities_of

OURS = "GPT"
COUNTED = {
    "f1": f1_score,
    "precision": precision_score,
    "recall": recall_score,
    "mcc": matthews_correlation,
    "accuracy": accuracy_score,
}


@dataclass(frozen=True)
class Outcome:
    """What one model says of the test texts of one run, of label 1 of two: `(N,)` each."""

    is_spam: np.ndarray
    probability: np.ndarray

    def is_right(self, labels: np.ndarray) -> np.ndarray:
        return self.is_spam == labels

    def numbers(self, labels: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
        """The numbers of texts that count `weights` times, or once, the most important one first."""
        four = counts(labels, self.is_spam, weights)
        return {name: float(score(*four)) for name, score in COUNTED.items()} | {
            "pr_auc": float(average_precision_score(labels, self.probability, sample_weight=weights)),
            "ece": expected_calibration_error(labels, self.probability, weights),
        }

    def ece_by_chance(self) -> float:
        return ece_by_chance(self.probability)


@dataclass(frozen=True)
class LabelOutcome:
    """
    The same of other labels.

    Attributes:
        said: label numbers `(N,)`, or rows of 0 and 1, `(N, K)`, where a text may have several.
        probabilities: `(N, K)`.
    """

    said: np.ndarray
    probabilities: np.ndarray

    def is_right(self, labels: np.ndarray) -> np.ndarray:
        same = self.said == labels
        return same.all(axis=-1) if same.ndim == 2 else same

    def numbers(self, labels: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
        """As `Outcome`'s."""
        share = float(np.average(self.is_right(labels), weights=weights))
        if labels.ndim == 2:
            found = count_several_labels(labels, self.said, weights)
            numbers = {"macro_f1": found.f1("macro"), "micro_f1": found.f1("micro"), "subset_accuracy": share}
            of_each = None if weights is None else np.repeat(weights, labels.shape[1])
        else:
            found = count_labels(labels, self.said, self.probabilities.shape[1], weights)
            numbers = {"macro_f1": found.f1("macro"), "mcc": multiclass_correlation(found), "accuracy": share}
            of_each = weights
        numbers["ece"] = top_label_calibration_error(labels, self.probabilities, of_each)
        return {name: float(value) for name, value in numbers.items()}

    def ece_by_chance(self) -> float:
        if self.said.ndim == 2:
            return ece_by_chance(self.probabilities.ravel())
        return ece_by_chance(self.probabilities.max(axis=-1))


@dataclass(frozen=True)
class Evaluated:
    """The test texts of one run, with every model's outcome by its name."""

    run: ClassifierRun
    labels: np.ndarray
    groups: np.ndarray  # a number for each text, the same for near-copies
    outcomes: Mapping[str, Outcome | LabelOutcome]


def number_groups(texts: Iterable[str]) -> dict[str, int]:
    """A number for each group of near-copies, by the text that they share."""
    return {shared: number for number, shared in enumerate(dict.fromkeys(map(normalize, texts)))}


def evaluate(run: ClassifierRun, group_numbers: Mapping[str, int]) -> Evaluated:
    """Ours and the linear models on a run's test set, the latter trained on its training set."""
    train, validation, test = (run.splits[name] for name in ("train", "validation", "test"))
    as_trained = Calibration(is_multi_label=run.is_multi_label)
    logits = run.load_classifier().logits(test["text"]).double().numpy()
    outcomes = {OURS: _outcome(run, probabilities_of(as_trained, logits))}
    for name, (to_fit, scores) in scores_by_model(
        CLASSIFIERS, train, validation, test, n_labels=len(run.names)
    ).items():
        if run.is_binary:
            # Decision values become probabilities by a logistic curve fitted to the validation set (Platt 1999).
            curve = LogisticRegression(C=1e6).fit(to_fit[:, None], validation["label"])
            outcomes[name] = Outcome(scores > 0, curve.predict_proba(scores[:, None])[:, 1])
        else:
            scaled = scores / fit_label_temperature(to_fit, run.labels("validation"))
            probabilities = expit(scaled) if run.is_multi_label else softmax(scaled, axis=-1)
            outcomes[name] = LabelOutcome(said_by_scores(scores, run.is_multi_label), probabilities)
    groups = np.array([group_numbers[normalize(text)] for text in test["text"]])
    return Evaluated(run, run.labels("test"), groups, outcomes)


def _outcome(run: ClassifierRun, probabilities: np.ndarray) -> Outcome | LabelOutcome:
    """By the thresholds of a model without a calibration."""
    if run.is_binary:
        return Outcome(probabilities[:, 1] > 0.5, probabilities[:, 1])
    said = (probabilities > 0.5).astype(int) if run.is_multi_label else probabilities.argmax(axis=-1)
    return LabelOutcome(said, probabilities)
