"""
Fits the probabilities and the threshold of a spam classifier to its validation set, and keeps them in its config.

    python -m hf_gpt_scratch.evaluation.text_classification.calibration runs/spam --precision 0.95

The temperature makes the probabilities as likely as they can be. `--precision X` then sets the threshold to the one
that catches the most spam of those with a precision of at least X, even if the share of ham taken for spam is as high
as the validation set leaves possible. `--prevalence P` is for messages of which another share is spam. What becomes of
the test set is shown, written to DIR/results/calibration.json and drawn in DIR/plots/calibration.png.
`hf-gpt-scratch classify` applies it.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logit
from scipy.stats import beta
from sklearn.metrics import log_loss

from ...classification.calibration import Calibration
from ...commands.arguments import probability
from ...utils.errors import InputError, UsageError
from ...utils.result_card import Metric, ResultCard
from ..intervals import CONFIDENCE, percentiles, posterior, wilson
from ..metrics import accuracy_score, expected_calibration_error, f1_score, matthews_correlation, precision_score
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


def threshold_for_precision(
    probabilities: np.ndarray, labels: Sequence[int], precision: float, prevalence: float
) -> tuple[float, float]:
    """
    The threshold that catches the most spam of those whose precision, where the share `prevalence` of the messages is
    spam, is at least `precision`, the highest of several; and what that precision is at least. Of spam the share
    caught is taken as found; of ham the share taken for spam as high as it may be, with a confidence of 95 % (Clopper
    and Pearson 1934): a validation set has few mistakes to count.

    Raises:
        InputError: when no threshold reaches it, saying what is within reach.
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
        raise InputError(
            f"A precision of {precision:g} cannot be promised from {spam} spam and {ham} ham messages to validate on,"
            f" at most {np.floor(1000 * at_least.max()) / 1000:g}: ask for less, or hold more messages out."
        )
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
    threshold: float, probabilities: np.ndarray, labels: Sequence[int], prevalence: float
) -> dict[str, Metric]:
    """
    The numbers of a classifier with this threshold where the share `prevalence` of the messages is spam. Intervals
    are for other messages of which the true shares of spam caught and ham mistaken are drawn.
    """
    labels = np.asarray(labels)
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


def write(
    run: SpamRun, card: ResultCard, kept: Mapping, labels: Sequence[int], probabilities: Mapping[str, np.ndarray]
) -> None:
    """
    Writes the picture, the card and, into config.json, the calibration. That comes last: if anything cannot be
    written, the model classifies as before.
    """
    from ...utils.files import read_json, write_json
    from ..plots import plot_reliability

    config = run.folder / "config.json"
    calibrated = read_json(config) | {"calibration": kept}
    (run.folder / "plots").mkdir(exist_ok=True)
    plot_reliability({name: (labels, p) for name, p in probabilities.items()}, run.folder / "plots/calibration.png")
    card.write(run.folder, "calibration")
    write_json(config, calibrated)


def report(run: SpamRun, numbers: Mapping[str, Mapping[str, Metric]], kept: Mapping, promised: float | None) -> str:
    """The test set's numbers as a table, what config.json keeps, and what that promises."""
    lines = [f"{'test set':20}" + "".join(f"{name:>24}" for name in numbers)]
    for name in numbers[AFTER]:
        lines.append(f"{name:20}" + "".join(f"{_cell(metrics[name]):>24}" for metrics in numbers.values()))
    values = "Temperature {temperature:.3f}, shift {shift:.3f}, threshold {threshold:.4f}".format(**kept)
    lines.append(f"{values}, kept in {run.folder / 'config.json'}.")
    if promised is not None:
        share = f"{kept['prevalence']:.1%}"
        lines.append(f"By the validation set, precision is at least {promised:.3f} where {share} are spam.")
    lines.append(f"The numbers are in {run.folder / 'results'}, their picture in {run.folder / 'plots'}.")
    return "\n".join(lines)


def _cell(metric: Metric) -> str:
    interval = "" if metric.interval is None else " ({:.3f}-{:.3f})".format(*metric.interval)
    return f"{metric.value:.4f}{interval}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hf_gpt_scratch.evaluation.text_classification.calibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dir", metavar="DIR", help="an output folder of training/finetune_spam.py")
    parser.add_argument("--data_file", help="the messages it was trained on (default: the file that it read)")
    parser.add_argument("--dataset_name", help="the same from the Hub")
    parser.add_argument("--precision", type=probability, help="that the threshold shall keep; else it is 0.5")
    parser.add_argument("--prevalence", type=probability, help="share of spam (default: that of the validation set)")
    return parser


def main(argv: list[str] | None = None) -> Calibration:
    argv = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(argv)
    if args.prevalence == 1 or args.precision == 1:
        raise UsageError("--precision and --prevalence must be below 1.")

    from ...utils.provenance import command_line, environment

    messages = load_messages(args.dir, args.data_file, args.dataset_name)
    run = open_run(args.dir, messages)
    classifier = run.load_classifier()
    validation, test = (run.splits[name] for name in ("validation", "test"))
    prevalence = float(np.mean(validation["label"])) if args.prevalence is None else args.prevalence
    scores = log_odds(classifier, validation["text"])
    calibration, promised = fit(scores, validation["label"], prevalence, args.precision)

    scores = torch.from_numpy(log_odds(classifier, test["text"]))
    stages = {BEFORE: Calibration(), AFTER: calibration}
    probabilities = {name: stage.of_log_odds(scores).numpy() for name, stage in stages.items()}
    numbers = {
        name: metrics_at(stage.threshold, probabilities[name], test["label"], prevalence)
        for name, stage in stages.items()
    }
    card = ResultCard(
        task="SMS spam calibration",
        protocol=f"{run.protocol} split {run.split_seed}, fitted on the {len(validation)} messages of the validation"
        f" set, measured on the {len(test)} of the test set, as if {prevalence:.1%} of them were spam"
        + (f"; for a precision of at least {args.precision:g}" if args.precision else ""),
        data=[{"source": messages.source, "sha256": messages.sha256}],
        metrics=numbers[AFTER],
        baselines={BEFORE: numbers[BEFORE]},
        seeds=[run.split_seed],
        command=command_line("-m", ["hf_gpt_scratch.evaluation.text_classification.calibration", *argv]),
        environment=environment(),
        # Those as trained, which the temperature and the shift turn into the calibrated ones.
        predictions="predictions.csv" if (run.folder / "predictions.csv").is_file() else None,
    )
    kept = asdict(calibration) | {"prevalence": prevalence, "precision": args.precision}
    write(run, card, kept, test["label"], probabilities)
    print(report(run, numbers, kept, promised))
    return calibration


if __name__ == "__main__":
    from ...utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
