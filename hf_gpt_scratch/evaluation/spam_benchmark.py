"""
Spam classifiers held against linear models on the same splits, with intervals for everything.

    python -m hf_gpt_scratch.evaluation.spam_benchmark runs/spam-1 runs/spam-2 ... --output_dir runs/spam_benchmark

Each DIR is an output folder of training/finetune_spam.py, grouped protocol, each with a seed of its own; the linear
models are trained here, on the same splits. Numbers are means over the runs; their intervals (95 %) are percentiles of
a bootstrap over the messages, where a message is drawn with its near-copies, for all runs and models at once. How much
the training's own chance moves the numbers, benchmark.json shows by those of the single runs. `--book DIR` adds a
run on the book's split, in a table of its own, as its numbers are of other messages and some of them leak. Writes
benchmark.json, predictions.csv, benchmark.png and a card in results/ into `--output_dir`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from ..errors import InputError, UsageError
from .baseline import CLASSIFIERS, baseline_scores
from .card import Metric
from .intervals import percentiles
from .metrics import counts, expected_calibration_error, f1_score, matthews_correlation, precision_score, recall_score
from .spam_runs import SpamRun, log_odds, open_run

OURS = "GPT"
RESAMPLES = 1000
COUNTED = {"f1": f1_score, "precision": precision_score, "recall": recall_score, "mcc": matthews_correlation}
METRICS = (*COUNTED, "pr_auc", "ece")


@dataclass(frozen=True)
class Outcome:
    """What one model says of the test messages of one run: `(N,)` each."""

    is_spam: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Judged:
    """The test messages of one run, with every model's outcome by its name."""

    run: SpamRun
    labels: np.ndarray
    groups: np.ndarray  # a number for each message, the same for near-copies
    outcomes: Mapping[str, Outcome]


def judge(run: SpamRun, group_numbers: Mapping[str, int]) -> Judged:
    """Ours and the linear models on a run's test set, the latter trained on its training set."""
    from ..data.sms_spam import normalize

    train, validation, test = (run.splits[name] for name in ("train", "validation", "test"))
    calibration = run.classifier.calibration
    probability = expit(log_odds(run.classifier, test["text"]) / calibration.temperature + calibration.shift)
    outcomes = {OURS: Outcome(probability > calibration.threshold, probability)}
    for name in CLASSIFIERS:
        to_fit, scores = baseline_scores(name, train, validation, test)
        # Scores are no probabilities; a logistic curve through the validation set makes them (Platt 1999).
        curve = LogisticRegression(C=1e6).fit(to_fit[:, None], validation["label"])
        outcomes[name] = Outcome(scores > 0, curve.predict_proba(scores[:, None])[:, 1])
    groups = np.array([group_numbers[normalize(text)] for text in test["text"]])
    return Judged(run, np.array(test["label"]), groups, outcomes)


def measure(labels: np.ndarray, outcome: Outcome, weights: np.ndarray | None = None) -> dict[str, float]:
    """The numbers of `METRICS`, of messages that count `weights` times, or once."""
    four = counts(labels, outcome.is_spam, weights)
    return {name: float(score(*four)) for name, score in COUNTED.items()} | {
        "pr_auc": float(average_precision_score(labels, outcome.probability, sample_weight=weights)),
        "ece": expected_calibration_error(labels, outcome.probability, weights),
    }


def compare(judged: Sequence[Judged], resamples: int = RESAMPLES, seed: int = 0) -> tuple[dict, dict]:
    """
    Every model's numbers, as means over the runs: `{model: {metric: Metric}}`, and the differences between ours and
    each linear model, `{model: {metric: Metric}}`.
    """
    from tqdm import trange

    n_groups = 1 + max(one.groups.max() for one in judged)

    def means(times: np.ndarray) -> np.ndarray:
        """(models, metrics), each group of messages counted so many times."""
        single = [
            [list(measure(one.labels, outcome, times[one.groups]).values()) for outcome in one.outcomes.values()]
            for one in judged
        ]
        return np.mean(single, axis=0)

    rng = np.random.default_rng(seed)
    found = means(np.ones(n_groups))
    drawn = np.array(  # (resamples, models, metrics)
        [means(rng.poisson(1, n_groups).astype(float)) for _ in trange(resamples, desc="resampling", disable=None)]
    )

    def as_metrics(values, resampled) -> dict[str, Metric]:
        return {
            name: Metric(float(value), percentiles(resampled[:, i]), higher_is_better=name != "ece")
            for i, (name, value) in enumerate(zip(METRICS, values))
        }

    names = list(judged[0].outcomes)
    numbers = {name: as_metrics(found[i], drawn[:, i]) for i, name in enumerate(names)}
    differences = {
        name: as_metrics(found[0] - found[i], drawn[:, 0] - drawn[:, i]) for i, name in enumerate(names) if i
    }
    return numbers, differences


def mcnemar(one: Judged, other: str) -> dict:
    """McNemar's exact test between ours and another model: messages that only one of the two judges rightly."""
    ours, theirs = (one.outcomes[name].is_spam == one.labels for name in (OURS, other))
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    trials = only_ours + only_theirs
    p_value = float(binomtest(only_ours, trials).pvalue) if trials else 1.0
    return {
        "split_seed": one.run.split_seed,
        "only_ours_right": only_ours,
        "only_theirs_right": only_theirs,
        "p_value": p_value,
    }


def conclusion(differences: Mapping[str, Mapping[str, Metric]], best: str) -> str:
    """What the difference in F1 to the best linear model allows one to say."""
    difference = differences[best]["f1"]
    low, high = (100 * end for end in difference.interval)
    apart = f"{100 * difference.value:+.2f} points of F1 from {best}'s, 95 % interval {low:+.2f} to {high:+.2f}"
    if low > 0:
        return f"The GPT is better than the best linear model: {apart}."
    if high < 0:
        return f"The GPT is worse than the best linear model: {apart}."
    return f"The GPT cannot be told apart from the best linear model: {apart}."


def table(numbers: Mapping[str, Mapping[str, Metric]]) -> str:
    """A line for each model, its numbers above their intervals."""
    lines = [f"{'':30}" + "".join(f"{name:>18}" for name in METRICS)]
    for model, row in numbers.items():
        cells = (f"{metric.value:.4f}" for metric in row.values())
        spans = ("{:.3f} to {:.3f}".format(*metric.interval) for metric in row.values())
        lines += [f"{model:30}" + "".join(f"{cell:>18}" for cell in line) for line in (cells, spans)]
        lines[-1] = lines[-1].replace(model, " " * len(model), 1)
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hf_gpt_scratch.evaluation.spam_benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dirs", metavar="DIR", nargs="+", help="output folders of training/finetune_spam.py")
    parser.add_argument("--book", metavar="DIR", help="one with --protocol book")
    parser.add_argument("--data_file", help="the messages they were trained on, if not downloaded")
    parser.add_argument("--dataset_name", help="the same from the Hub")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/spam_benchmark"), help="default: %(default)s")
    return parser


def open_runs(folders: Sequence[str], messages, protocol: str) -> list[SpamRun]:
    """The runs, each of this protocol and of a split of its own; raises `InputError` otherwise."""
    runs = [open_run(folder, messages) for folder in folders]
    seen = {}
    for run in runs:
        if run.protocol != protocol:
            raise InputError(f"{run.folder} was trained by the {run.protocol} protocol, not the {protocol} one.")
        if run.split_seed in seen:
            raise InputError(
                f"{seen[run.split_seed]} and {run.folder} have the same split; train with another --seed."
            )
        seen[run.split_seed] = run.folder
    return runs


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(argv)
    if len(args.dirs) < 2:
        raise UsageError("Give at least two runs: one cannot tell how much the numbers depend on the split.")

    from ..data.sms_spam import load_messages, normalize
    from ..provenance import command_line, environment
    from ..saving import write_json
    from .card import ResultCard
    from .plots import plot_classifiers

    messages = load_messages(args.data_file, args.dataset_name)
    runs = open_runs(args.dirs, messages, "grouped")
    book = open_runs([args.book], messages, "book") if args.book else []
    group_numbers = {}
    for text in messages.texts:
        group_numbers.setdefault(normalize(text), len(group_numbers))
    judged = [judge(run, group_numbers) for run in runs]
    numbers, differences = compare(judged)
    best = max(CLASSIFIERS, key=lambda name: numbers[name]["f1"].value)
    tests = [mcnemar(one, best) for one in judged]

    args.output_dir.mkdir(parents=True, exist_ok=True)
    what = {
        "data": [{"source": messages.source, "sha256": messages.sha256}],
        "command": command_line("-m", ["hf_gpt_scratch.evaluation.spam_benchmark", *argv]),
        "environment": environment(),
    }
    sizes = [len(one.labels) for one in judged]
    ResultCard(
        task="SMS spam benchmark",
        protocol=f"mean over {len(judged)} grouped splits of {min(sizes)} to {max(sizes)} test messages each, natural"
        " share of spam",
        metrics=numbers[OURS] | {"f1_above_best_linear": differences[best]["f1"]},
        baselines={name: numbers[name] for name in CLASSIFIERS},
        seeds=[run.split_seed for run in runs],
        predictions="predictions.csv",
        **what,
    ).write(args.output_dir, "spam_benchmark")
    result = {
        "runs": [
            {"folder": str(one.run.folder), "split_seed": one.run.split_seed}
            | {name: measure(one.labels, outcome) for name, outcome in one.outcomes.items()}
            for one in judged
        ],
        "numbers": _plain(numbers),
        "differences": _plain(differences),
        "best_linear_model": best,
        "mcnemar": tests,
        "conclusion": conclusion(differences, best),
    }
    print(table(numbers))
    for test in tests:
        print(
            "split {split_seed}: {only_ours_right} messages only the GPT judged rightly, {only_theirs_right} only"
            " {best} (McNemar p = {p_value:.2f})".format(best=best, **test)
        )
    print(result["conclusion"])
    if book:
        [book_judged] = [judge(run, group_numbers) for run in book]
        result["book"] = _book_numbers(book_judged)
        print(f"The book's split, {len(book_judged.labels)} messages, of which some stand in its training set too:")
        for name, row in result["book"].items():
            low, high = row["intervals"]["accuracy"]
            print(f"{name:30} accuracy {row['accuracy']:.4f} ({low:.3f}-{high:.3f}), F1 {row['f1']:.4f}")
    write_json(args.output_dir / "benchmark.json", result | what)
    _write_predictions(judged, args.output_dir / "predictions.csv")
    plot_classifiers(
        {
            name: (
                np.concatenate([one.labels for one in judged]),
                np.concatenate([one.outcomes[name].probability for one in judged]),
            )
            for name in numbers
        },
        args.output_dir / "benchmark.png",
    )
    print(f"benchmark.json, benchmark.png, predictions.csv and results/ are in {args.output_dir}.")
    return result


def _plain(tables: Mapping[str, Mapping[str, Metric]]) -> dict:
    return {
        model: {name: {"value": metric.value, "interval": metric.interval} for name, metric in row.items()}
        for model, row in tables.items()
    }


def _book_numbers(judged: Judged) -> dict:
    from .metrics import BinaryClassification

    return {
        name: BinaryClassification().compute(predictions=outcome.is_spam.astype(int), references=judged.labels)
        for name, outcome in judged.outcomes.items()
    }


def _write_predictions(judged: Sequence[Judged], path: Path) -> None:
    import pandas as pd

    pd.concat(
        pd.DataFrame(
            {
                "split_seed": one.run.split_seed,
                "text": one.run.splits["test"]["text"],
                "label": one.labels,
                **{f"{name}: spam": outcome.is_spam.astype(int) for name, outcome in one.outcomes.items()},
                **{f"{name}: probability": outcome.probability for name, outcome in one.outcomes.items()},
            }
        )
        for one in judged
    ).to_csv(path, index=False)


if __name__ == "__main__":
    from ..errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
