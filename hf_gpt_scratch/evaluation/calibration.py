"""
Fits the probabilities and the threshold of a spam classifier to its validation set, and keeps them in its config.

    python -m hf_gpt_scratch.evaluation.calibration runs/spam --precision 0.95

The temperature makes the probabilities as likely as they can be. `--precision X` then sets the threshold to the lowest
that has a precision of at least X, even if the share of ham taken for spam is as high as the validation set leaves
possible. `--prevalence P` is for messages of which another share is spam. What becomes of the test set is shown,
written to DIR/results/calibration.json and drawn in DIR/plots/calibration.png. `hf-gpt-scratch classify` applies it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import beta

from ..argument_types import probability
from ..errors import InputError, UsageError
from ..inference import Calibration

CONFIDENCE = 0.95  # of the bound on the share of ham that is taken for spam
RESAMPLES = 10_000


def fit_temperature(log_odds: np.ndarray, labels: Sequence[int]) -> float:
    """
    The temperature at which the labels are likeliest (Guo et al. 2017, section 4.2), for log-odds `(N,)`, from 0.05
    to 20: where a model makes no mistake on these rows, they set it no lower end.
    """
    signs = 2 * np.asarray(labels) - 1

    def loss(log_temperature: float) -> float:
        return np.logaddexp(0, -signs * log_odds / np.exp(log_temperature)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def lowest_threshold(
    probabilities: np.ndarray, labels: Sequence[int], precision: float, prevalence: float
) -> tuple[float, float]:
    """
    The lowest threshold whose precision, where the share `prevalence` of the messages is spam, is at least
    `precision`, and what that precision is at least. Of spam the share caught is taken as found; of ham the share
    taken for spam as high as it may be, with a confidence of 95 % (Clopper and Pearson 1934): a validation set has
    few mistakes to count.

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
    row = last[reached[-1]]
    following = scores[row + 1] if row + 1 < len(scores) else 0.0
    return float((scores[row] + following) / 2), float(at_least[reached[-1]])


def measure(probabilities: np.ndarray, labels: Sequence[int], threshold: float, prevalence: float) -> dict:
    """
    Precision at a prevalence, recall, the share of ham taken for spam, and the calibration error, each as a card's
    `Metric`. The intervals draw spam and ham anew, each among its own.
    """
    from .card import Metric
    from .intervals import percentiles, wilson
    from .metrics import expected_calibration_error

    labels = np.asarray(labels)
    spam, ham = int((labels == 1).sum()), int((labels == 0).sum())
    caught = int((probabilities[labels == 1] > threshold).sum())
    mistaken = int((probabilities[labels == 0] > threshold).sum())

    def precision(caught, mistaken):
        hits, misses = prevalence * caught / spam, (1 - prevalence) * mistaken / ham
        return np.divide(hits, hits + misses, out=np.zeros(np.shape(hits)), where=hits + misses > 0)

    rng = np.random.default_rng(0)
    drawn = rng.binomial(spam, caught / spam, RESAMPLES), rng.binomial(ham, mistaken / ham, RESAMPLES)
    weights = np.where(labels == 1, prevalence / spam, (1 - prevalence) / ham)
    return {
        "precision": Metric(float(precision(caught, mistaken)), percentiles(precision(*drawn))),
        "recall": Metric(caught / spam, wilson(caught, spam)),
        "false_positive_rate": Metric(mistaken / ham, wilson(mistaken, ham), higher_is_better=False),
        "ece": Metric(expected_calibration_error(labels, probabilities, weights), higher_is_better=False),
    }


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hf_gpt_scratch.evaluation.calibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dir", metavar="DIR", help="an output folder of training/finetune_spam.py")
    parser.add_argument("--data_file", help="the messages it was trained on, if not downloaded")
    parser.add_argument("--dataset_name", help="the same from the Hub")
    parser.add_argument("--precision", type=probability, help="that the threshold shall keep; else it is 0.5")
    parser.add_argument("--prevalence", type=probability, help="share of spam (default: that of the validation set)")
    return parser


def main(argv: list[str] | None = None) -> Calibration:
    argv = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(argv)
    if args.prevalence == 1 or args.precision == 1:
        raise UsageError("--precision and --prevalence must be below 1.")

    from ..data.sms_spam import load_messages
    from ..provenance import command_line, environment
    from ..saving import write_json
    from .card import ResultCard
    from .plots import plot_reliability
    from .responses import read_json
    from .spam_runs import log_odds, open_run

    messages = load_messages(args.data_file, args.dataset_name)
    run = open_run(args.dir, messages)
    validation, test = (run.splits[name] for name in ("validation", "test"))
    scores = log_odds(run.classifier, validation["text"])
    share = float(np.mean(validation["label"]))
    prevalence = share if args.prevalence is None else args.prevalence
    temperature = fit_temperature(scores, validation["label"])
    shift = float(logit(prevalence) - logit(share))
    threshold, promised = 0.5, None
    if args.precision is not None:
        probabilities = expit(scores / temperature + shift)
        threshold, promised = lowest_threshold(probabilities, validation["label"], args.precision, prevalence)
    calibration = Calibration(temperature, shift, threshold)

    test_scores = log_odds(run.classifier, test["text"])
    before, after = expit(test_scores), expit(test_scores / temperature + shift)
    as_trained = measure(before, test["label"], 0.5, prevalence)
    calibrated = measure(after, test["label"], threshold, prevalence)
    kept = asdict(calibration) | {"prevalence": prevalence, "precision": args.precision}
    path = run.folder / "config.json"
    write_json(path, read_json(path) | {"calibration": kept})
    (run.folder / "plots").mkdir(exist_ok=True)
    picture = run.folder / "plots" / "calibration.png"
    plot_reliability({"as trained": (test["label"], before), "calibrated": (test["label"], after)}, picture)
    card = ResultCard(
        task="SMS spam calibration",
        protocol=f"{run.protocol} split {run.split_seed}, fitted on the {len(validation)} messages of the validation"
        f" set, measured on the {len(test)} of the test set, as if {prevalence:.1%} of them were spam",
        data=[{"source": messages.source, "sha256": messages.sha256}],
        metrics=calibrated,
        baselines={"as trained": as_trained},
        seeds=[run.split_seed],
        command=command_line("-m", ["hf_gpt_scratch.evaluation.calibration", *argv]),
        environment=environment(),
    ).write(run.folder, "calibration")

    print(f"{'test set':20}{'as trained':>24}{'calibrated':>24}")
    for name in calibrated:
        print(f"{name:20}{_with_interval(as_trained[name]):>24}{_with_interval(calibrated[name]):>24}")
    print(f"Temperature {temperature:.3f}, shift {shift:.3f}, threshold {threshold:.4f}, kept in {path}.")
    if promised is not None:
        print(f"By the validation set, precision is at least {promised:.3f} where {prevalence:.1%} are spam.")
    print(f"The numbers are in {card}, their picture in {picture}.")
    return calibration


def _with_interval(metric) -> str:
    interval = "" if metric.interval is None else " ({:.3f}-{:.3f})".format(*metric.interval)
    return f"{metric.value:.4f}{interval}"


if __name__ == "__main__":
    from ..errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
