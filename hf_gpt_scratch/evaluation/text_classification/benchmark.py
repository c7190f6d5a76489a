"""
Spam classifiers compared with linear models on the same splits, with intervals for everything.

Each run is one of the grouped protocol, with a seed of its own; the linear models are trained here, on the same
splits. The GPT is measured as it was trained: a calibration in its config is ignored, so that the numbers are the same
before and after one.

Numbers are means over the runs; their intervals (95 %) are percentiles of a bootstrap over the messages, where a
message is drawn with its near-copies, for all runs and models at once. How much the training's own chance moves the
numbers, benchmark.json shows by those of the single runs. `ece_by_chance` is the calibration error that a model which
is right about its probabilities would show on so few messages. A run on the book's split gets a table and a card of
its own, as its numbers are of other messages and some of them leak.
"""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from ...classification.calibration import Calibration
from ...data.sms_spam import leaked_rows, normalize
from ...utils.errors import InputError, UsageError
from ...utils.files import write_json, write_whole
from ...utils.provenance import environment, public_name
from ...utils.result_card import Metric, ResultCard
from ..intervals import percentiles
from ..metrics import (
    accuracy_score,
    counts,
    ece_by_chance,
    expected_calibration_error,
    f1_score,
    matthews_correlation,
    precision_score,
    recall_score,
)
from .baselines import CLASSIFIERS, scores_by_model
from .runs import ClassifierRun, load_messages, log_odds, open_run

OURS = "GPT"
COUNTED = {
    "f1": f1_score,
    "precision": precision_score,
    "recall": recall_score,
    "mcc": matthews_correlation,
    "accuracy": accuracy_score,
}
METRICS = (*COUNTED, "pr_auc", "ece")


@dataclass(frozen=True)
class Outcome:
    """What one model says of the test messages of one run: `(N,)` each."""

    is_spam: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Evaluated:
    """The test messages of one run, with every model's outcome by its name."""

    run: ClassifierRun
    labels: np.ndarray
    groups: np.ndarray  # a number for each message, the same for near-copies
    outcomes: Mapping[str, Outcome]


def number_groups(texts: Iterable[str]) -> dict[str, int]:
    """A number for each group of near-copies, by the text that they share."""
    return {shared: number for number, shared in enumerate(dict.fromkeys(map(normalize, texts)))}


def evaluate(run: ClassifierRun, group_numbers: Mapping[str, int]) -> Evaluated:
    """Ours and the linear models on a run's test set, the latter trained on its training set."""
    train, validation, test = (run.splits[name] for name in ("train", "validation", "test"))
    as_trained = Calibration()
    probability = as_trained.of_log_odds(torch.from_numpy(log_odds(run.load_classifier(), test["text"]))).numpy()
    outcomes = {OURS: Outcome(probability > as_trained.threshold, probability)}
    for name, (to_fit, scores) in scores_by_model(CLASSIFIERS, train, validation, test).items():
        # Decision values become probabilities by a logistic curve fitted to the validation set (Platt 1999).
        curve = LogisticRegression(C=1e6).fit(to_fit[:, None], validation["label"])
        outcomes[name] = Outcome(scores > 0, curve.predict_proba(scores[:, None])[:, 1])
    groups = np.array([group_numbers[normalize(text)] for text in test["text"]])
    return Evaluated(run, np.array(test["label"]), groups, outcomes)


def numbers_of(labels: np.ndarray, outcome: Outcome, weights: np.ndarray | None = None) -> dict[str, float]:
    """The numbers of `METRICS`, of messages that count `weights` times, or once."""
    four = counts(labels, outcome.is_spam, weights)
    return {name: float(score(*four)) for name, score in COUNTED.items()} | {
        "pr_auc": float(average_precision_score(labels, outcome.probability, sample_weight=weights)),
        "ece": expected_calibration_error(labels, outcome.probability, weights),
    }


def compare(evaluated: Sequence[Evaluated], resamples: int = 1000, seed: int = 0) -> tuple[dict, dict]:
    """
    Every model's numbers, as means over the runs: `{model: {metric: Metric}}`, and the differences between ours and
    each linear model, `{model: {metric: Metric}}`. A number that is the same however the messages are drawn, as of a
    model without a mistake, has no interval: they do not tell how far it is from other messages'.
    """
    from tqdm import trange

    n_groups = 1 + max(one.groups.max() for one in evaluated)

    def means(times: np.ndarray) -> np.ndarray:
        """(models, metrics), each group of messages counted so many times."""
        single = [
            [list(numbers_of(one.labels, outcome, times[one.groups]).values()) for outcome in one.outcomes.values()]
            for one in evaluated
        ]
        return np.mean(single, axis=0)

    rng = np.random.default_rng(seed)
    found = means(np.ones(n_groups))
    drawn = np.array(  # (resamples, models, metrics)
        [means(rng.poisson(1, n_groups).astype(float)) for _ in trange(resamples, desc="resampling", disable=None)]
    )

    def as_metrics(values, resampled) -> dict[str, Metric]:
        metrics = {}
        for name, value, drawn_values in zip(METRICS, values, resampled.T):
            interval = percentiles(drawn_values, value) if np.ptp(drawn_values) > 1e-9 else None
            metrics[name] = Metric(float(value), interval, higher_is_better=name != "ece")
        return metrics

    names = list(evaluated[0].outcomes)
    numbers = {name: as_metrics(found[i], drawn[:, i]) for i, name in enumerate(names)}
    for name, metrics in numbers.items():
        by_chance = np.mean([ece_by_chance(one.outcomes[name].probability) for one in evaluated])
        metrics["ece_by_chance"] = Metric(float(by_chance), higher_is_better=False)
    differences = {
        name: as_metrics(found[0] - found[i], drawn[:, 0] - drawn[:, i]) for i, name in enumerate(names) if i
    }
    return numbers, differences


def mcnemar(one: Evaluated, other: str) -> dict:
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


def best_linear(numbers: Mapping[str, Mapping[str, Metric]]) -> str:
    """The linear model with the highest F1."""
    return max(set(numbers) - {OURS}, key=lambda name: numbers[name]["f1"].value)


def conclusion(differences: Mapping[str, Mapping[str, Metric]], best: str) -> str:
    """What the difference in F1 to the best linear model allows one to say."""
    difference = differences[best]["f1"]
    if difference.interval is None:
        return f"The GPT cannot be told apart from the best linear model: {best} has the same F1 on these messages."
    low, high = (100 * end for end in difference.interval)
    apart = f"{100 * difference.value:+.2f} points of F1 from {best}'s, 95 % interval {low:+.2f} to {high:+.2f}"
    if low > 0:
        return f"The GPT is better than the best linear model: {apart}."
    if high < 0:
        return f"The GPT is worse than the best linear model: {apart}."
    return f"The GPT cannot be told apart from the best linear model: {apart}."


def open_runs(folders: Sequence[str], messages, protocol: str) -> list[ClassifierRun]:
    """The runs, each of this protocol and of a split of its own; raises `InputError` otherwise."""
    runs = [open_run(folder, messages) for folder in folders]
    seen = {}
    for run in runs:
        if run.protocol != protocol:
            raise InputError(
                f"{run.folder} was trained with --protocol {run.protocol}, not {protocol}; omit"
                f" it{', or give it with --book' if protocol == 'grouped' else ''}."
            )
        if run.split_seed in seen:
            raise InputError(
                f"{seen[run.split_seed]} and {run.folder} have the same split; train one of them with another --seed."
            )
        seen[run.split_seed] = run.folder
    return runs


def try_folder(folder: Path) -> None:
    """Makes the folder; raises `InputError` or `OSError` where nothing can be written into it."""
    if folder.is_file():
        raise InputError(f"{folder} is a file; choose another --output_dir.")
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


@dataclass(frozen=True)
class Benchmark:
    """
    What `benchmark` has found.

    Attributes:
        result: what benchmark.json holds.
        numbers: every model's, by its name; of the run on the book's split, `book_numbers`.
        cards: the result cards, by the names of their files.
    """

    result: Mapping
    numbers: Mapping[str, Mapping[str, Metric]]
    book_numbers: Mapping[str, Mapping[str, Metric]] | None
    cards: Mapping[str, ResultCard]


def benchmark(
    folders: Sequence[str],
    output: Path,
    command: str,
    book: str | None = None,
    data_file: str | None = None,
    dataset_name: str | None = None,
) -> Benchmark:
    """
    Measures the classifiers in the runs' folders beside linear models, and writes benchmark.json, predictions.csv,
    benchmark.png and the result cards into the folder `output`.

    Args:
        command: that does it again, for the cards.
        book: the folder of a run on the book's split.
        data_file, dataset_name: the messages, as for `load_messages`.

    Raises:
        InputError: when there are fewer than two runs, a folder is not that of a spam classifier, runs have the
            same split or another protocol, or were trained on other messages.
    """
    if len(folders) < 2:
        raise UsageError(
            "Give at least two runs, trained with different --seed: one does not show how much the split matters."
        )
    messages = load_messages(folders[0], data_file, dataset_name)
    runs = open_runs(folders, messages, "grouped")
    books = open_runs([book], messages, "book") if book else []
    try_folder(output)  # before minutes of work
    background = {
        "data": [{"source": public_name(messages.source), "sha256": messages.sha256}],
        "command": command,
        "environment": environment(),
    }
    group_numbers = number_groups(messages.texts)
    evaluated = [evaluate(run, group_numbers) for run in runs]
    numbers, differences = compare(evaluated)
    result = summarize(evaluated, numbers, differences)
    cards = {"spam_benchmark": make_card(evaluated, numbers, differences, **background)}
    book_numbers = None
    for on_book in (evaluate(run, group_numbers) for run in books):
        book_numbers, _ = compare([on_book])
        result["book"] = _plain(book_numbers)
        cards["spam_benchmark_book"] = make_book_card(on_book, book_numbers, **background)
    write(output, result | background, cards, evaluated)
    return Benchmark(result, numbers, book_numbers, cards)


def summarize(evaluated: Sequence[Evaluated], numbers: Mapping, differences: Mapping) -> dict:
    """What benchmark.json holds of the runs and of `compare`'s two tables."""
    best = best_linear(numbers)
    return {
        "runs": [
            {"folder": str(one.run.folder), "split_seed": one.run.split_seed}
            | {name: numbers_of(one.labels, outcome) for name, outcome in one.outcomes.items()}
            for one in evaluated
        ],
        "numbers": _plain(numbers),
        "differences": _plain(differences),
        "best_linear_model": best,
        "mcnemar": [mcnemar(one, best) for one in evaluated],
        "conclusion": conclusion(differences, best),
    }


def _plain(tables: Mapping[str, Mapping[str, Metric]]) -> dict:
    return {
        model: {name: {"value": metric.value, "interval": metric.interval} for name, metric in row.items()}
        for model, row in tables.items()
    }


def make_card(evaluated: Sequence[Evaluated], numbers: Mapping, differences: Mapping, **background) -> ResultCard:
    """The result card of `compare`'s two tables; `background` is its data, command and environment."""
    sizes = sorted({len(one.labels) for one in evaluated})
    seeds = [one.run.split_seed for one in evaluated]
    return ResultCard(
        task="SMS spam benchmark",
        protocol=f"mean over the grouped splits of the seeds {', '.join(map(str, seeds))}, each of"
        f" {' to '.join(map(str, sizes[:: max(1, len(sizes) - 1)]))} test messages, natural share of spam, the GPT as"
        " trained: no calibration, threshold 0.5",
        metrics=numbers[OURS] | {"f1_above_best_linear": differences[best_linear(numbers)]["f1"]},
        baselines={name: numbers[name] for name in CLASSIFIERS},
        seeds=seeds,
        predictions="predictions.csv",
        **background,
    )


def make_book_card(book: Evaluated, numbers: Mapping, **background) -> ResultCard:
    """The result card of the run on the book's split."""
    return ResultCard(
        task="SMS spam benchmark",
        protocol=f"the book's split {book.run.split_seed}: {len(book.labels)} test messages, half of them spam;"
        f" {leaked_rows(book.run.splits)} have a near-copy in the training set",
        metrics=numbers[OURS],
        baselines={name: numbers[name] for name in CLASSIFIERS},
        seeds=[book.run.split_seed],
        **background,
    )


def write(folder: Path, result: Mapping, cards: Mapping[str, ResultCard], evaluated: Sequence[Evaluated]) -> None:
    """Writes the files, each whole or not at all, and last the cards that speak for them."""
    from ..plots import plot_classifiers

    labels = np.concatenate([one.labels for one in evaluated])
    probabilities = {
        name: np.concatenate([one.outcomes[name].probability for one in evaluated]) for name in result["numbers"]
    }
    write_whole(folder / "predictions.csv", predictions(evaluated))
    plot_classifiers({name: (labels, values) for name, values in probabilities.items()}, folder / "benchmark.png")
    write_json(folder / "benchmark.json", result)
    for name, card in cards.items():
        card.write(folder, name)


def predictions(evaluated: Sequence[Evaluated]) -> str:
    """Every test message of every run with its label and what each model says of it, as CSV."""
    import pandas as pd

    return pd.concat(
        pd.DataFrame(
            {
                "split_seed": one.run.split_seed,
                "text": one.run.splits["test"]["text"],
                "label": one.labels,
                **{f"{name}: spam": outcome.is_spam.astype(int) for name, outcome in one.outcomes.items()},
                **{f"{name}: probability": outcome.probability for name, outcome in one.outcomes.items()},
            }
        )
        for one in evaluated
    ).to_csv(index=False)
