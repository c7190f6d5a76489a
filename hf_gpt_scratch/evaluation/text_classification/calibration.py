"""
Fits the probabilities and the threshold of a spam classifier to its validation set, and keeps them in its config,
where `TextClassifier` finds them.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logit
from scipy.stats import beta
from sklearn.metrics import log_loss

from ...classification.calibration import Calibration, settings
from ...utils.errors import InputError, UsageError
from ...utils.files import read_json_object, write_json
from ...utils.provenance import environment, public_name
from ...utils.result_card import Metric, ResultCard
from ..intervals import CONFIDENCE, percentiles, posterior, wilson
from ..metrics import (
    BinaryClassification,
    accuracy_score,
    expected_calibration_error,
    f1_score,
    matthews_correlation,
    precision_score,
)
from .runs import SpamRun, load_messages, log_odds, open_run

BEFORE, AFTER = "as trained", "calibrated"


def fit_temperature(log_odds: np.ndarray, labels: Sequence[int]) -> float:
    """
    The temperature at which the labels are likeliest (Guo et al. 2017, section 4.2), for log-odds `(N,)`, from 0.05
    to 20. Labels count as a little less than certain, the less the more there are (Platt 1999): a model without a
    mistake on these rows may still make one on the next.
    """
    labels = np.asarray(labels)
    spam, ham = (labels == 1).sum(), (labels == 0).sum()
    targets = np.where(labels == 1, (spam + 1) / (spam + 2), 1 / (ham + 2))

    def loss(log_temperature: float) -> float:
        scores = log_odds / np.exp(log_temperature)
        return (targets * np.logaddexp(0, -scores) + (1 - targets) * np.logaddexp(0, scores)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


class OutOfReach(InputError):
    """
    So few messages cannot promise such a precision.

    Attributes:
        reach: what they can promise at most, rounded down.
    """

    def __init__(self, precision: float, spam: int, ham: int, reach: float, needed: int):
        digits = 100 if reach >= 0.01 else 10_000
        self.reach = float(np.floor(digits * reach) / digits)
        super().__init__(
            f"A precision of {precision:g} cannot be promised from {spam} spam and {ham} ham validation messages, at"
            f" most {self.reach:g}; it takes about {needed:,} ham messages without a mistake."
        )


def ham_needed(precision: float, caught: float, prevalence: float) -> int:
    """
    How many ham messages, none of them taken for spam, promise this precision where the share `caught` of spam is
    caught: the upper bound of the share mistaken is then 1 - 0.05 ** (1 / n) (Clopper and Pearson 1934).
    """
    most_mistaken = min(prevalence * caught * (1 - precision) / (precision * (1 - prevalence)), 1 - 1e-9)
    return int(np.ceil(np.log(1 - CONFIDENCE) / np.log1p(-most_mistaken)))


def threshold_for_precision(
    probabilities: np.ndarray, labels: Sequence[int], precision: float, prevalence: float
) -> tuple[float, float]:
    """
    The threshold that catches the most spam of those whose precision, where the share `prevalence` of the messages is
    spam, is at least `precision`, the highest of several; and what that precision is at least. Of spam the share
    caught is taken as found; of ham the share taken for spam as high as it may be, with a confidence of 95 % (Clopper
    and Pearson 1934): a validation set has few mistakes to count.

    Raises:
        OutOfReach: when no threshold reaches it.
    """
    order = np.argsort(-probabilities)
    scores, is_spam = probabilities[order], np.asarray(labels, dtype=bool)[order]
    spam, ham = is_spam.sum(), (~is_spam).sum()
    # A threshold lies between two different scores, below the first of them.
    last = np.flatnonzero(np.diff(scores, append=0.0))
    caught, mistaken = np.cumsum(is_spam)[last] / spam, np.cumsum(~is_spam)[last]
    most_mistaken = np.where(mistaken < ham, beta.ppf(CONFIDENCE, mistaken + 1, np.maximum(ham - mistaken, 1)), 1.0)
    hits = prevalence * caught
    at_least = hits / (hits + (1 - prevalence) * most_mistaken)
    reached = np.flatnonzero(at_least >= precision)
    if not len(reached):
        without_mistake = caught[mistaken == 0].max(initial=0) or caught[at_least.argmax()]
        needed = ham_needed(precision, without_mistake, prevalence)
        raise OutOfReach(precision, int(spam), int(ham), float(at_least.max()), needed)
    best = reached[np.argmax(caught[reached])]  # the first of the same recall, so the highest threshold
    row = last[best]
    following = scores[row + 1] if row + 1 < len(scores) else 0.0
    return float((scores[row] + following) / 2), float(at_least[best])


def fit(
    log_odds: np.ndarray, labels: Sequence[int], prevalence: float, precision: float | None = None
) -> tuple[Calibration, float | None]:
    """
    The calibration for messages of which the share `prevalence` is spam, and the precision that its threshold keeps;
    without a `precision` to keep the threshold is 0.5.

    Raises:
        InputError: when no threshold has the precision.
    """
    shift = float(logit(prevalence) - logit(np.mean(labels)))
    calibration = Calibration(fit_temperature(log_odds, labels), shift)
    if precision is None:
        return calibration, None
    probabilities = calibration.of_log_odds(torch.from_numpy(log_odds)).numpy()
    threshold, promised = threshold_for_precision(probabilities, labels, precision, prevalence)
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


def write(
    run: SpamRun, card: ResultCard, kept: Mapping, labels: Sequence[int], probabilities: Mapping[str, np.ndarray]
) -> None:
    """
    Writes the picture, the card and, into config.json, the calibration. That comes last: if anything cannot be
    written, the model classifies as before.
    """
    from ..plots import plot_reliability

    config = run.folder / "config.json"
    calibrated = read_json_object(config) | {"calibration": kept}
    (run.folder / "plots").mkdir(exist_ok=True)
    title = f"Calibration on the {len(labels)} test messages"
    models = {name: (labels, values) for name, values in probabilities.items()}
    plot_reliability(models, run.folder / "plots/calibration.png", title)
    card.write(run.folder, "calibration")
    write_json(config, calibrated)


@dataclass(frozen=True)
class Fitted:
    """
    What `calibrate` has found.

    Attributes:
        run: the model's run.
        calibration: as config.json keeps it.
        numbers: those of the test set, as trained and calibrated.
        prevalence: the share of spam that it was fitted for.
        promised: the precision that the threshold keeps by the validation set, where one was asked for.
        is_weighted: whether the numbers are as if the test set had that share of spam.
    """

    run: SpamRun
    calibration: Calibration
    numbers: Mapping[str, Mapping[str, Metric]]
    prevalence: float
    promised: float | None
    is_weighted: bool


def calibrate(
    folder: str,
    command: str,
    precision: float | None = None,
    prevalence: float | None = None,
    data_file: str | None = None,
    dataset_name: str | None = None,
    **placement,
) -> Fitted:
    """
    Calibrates the classifier in a run's folder on its validation set, measures it on its test set, and writes
    config.json, results/calibration.json and plots/calibration.png there.

    Args:
        command: that does it again, for the card.
        precision: that the threshold must keep; without one it is 0.5.
        prevalence: the share of spam where it will be used; by default that of the validation set.
        data_file, dataset_name: the messages, as for `load_messages`.
        placement: that of `pretrained.place`.

    Raises:
        InputError: when the folder is not that of a spam classifier, it was trained on other messages, or no
            threshold has the precision.
    """
    if prevalence == 1 or precision == 1:
        raise UsageError("--precision and --prevalence must be below 1.")
    messages = load_messages(folder, data_file, dataset_name)
    run = open_run(folder, messages)
    classifier = run.load_classifier(**placement)
    validation, test = (run.splits[name] for name in ("validation", "test"))
    share = float(np.mean(validation["label"])) if prevalence is None else prevalence
    scores = log_odds(classifier, validation["text"])
    try:
        calibration, promised = fit(scores, validation["label"], share, precision)
    except OutOfReach as error:
        given = {"data_file": data_file, "dataset_name": dataset_name, "prevalence": prevalence}
        same = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
        instead = shlex.join(["hf-gpt-scratch", "calibrate", str(folder), *same, "--precision", f"{error.reach:g}"])
        raise InputError(f"{str(error).rstrip('.')}. Try `{instead}`, or train on more messages.") from None

    scores = torch.from_numpy(log_odds(classifier, test["text"]))
    stages = {BEFORE: Calibration(), AFTER: calibration}
    probabilities = {name: stage.of_log_odds(scores).numpy() for name, stage in stages.items()}
    numbers = {
        name: metrics_at(stage.threshold, probabilities[name], test["label"], prevalence)
        for name, stage in stages.items()
    }
    data = [{"source": public_name(messages.source), "sha256": messages.sha256}]
    fitted = Fitted(run, calibration, numbers, share, promised, is_weighted=prevalence is not None)
    card = make_card(fitted, precision, data=data, command=command, environment=environment())
    kept = settings(calibration) | {"prevalence": share, "precision": precision}
    write(run, card, kept, test["label"], probabilities)
    return fitted


def make_card(fitted: Fitted, precision: float | None, **background) -> ResultCard:
    """The result card; `background` is its data, command and environment."""
    run, sizes = fitted.run, {name: len(rows) for name, rows in fitted.run.splits.items()}
    return ResultCard(
        task="SMS spam calibration",
        protocol=f"{run.protocol} split {run.split_seed}, fitted on the {sizes['validation']} messages of the"
        f" validation set, measured on the {sizes['test']} of the test set"
        + (f", as if {fitted.prevalence:.1%} of them were spam" if fitted.is_weighted else "")
        + (f"; for a precision of at least {precision:g}" if precision else ""),
        metrics=fitted.numbers[AFTER],
        baselines={BEFORE: fitted.numbers[BEFORE]},
        seeds=[run.split_seed],
        # The probabilities as trained, which temperature and shift turn into the calibrated ones.
        predictions="predictions.csv" if (run.folder / "predictions.csv").is_file() else None,
        **background,
    )
