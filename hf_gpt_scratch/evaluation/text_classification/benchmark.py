"""
Classifiers compared with linear models on the same splits, with intervals for everything.

Each run is one of the grouped protocol, with a seed of its own, or of the data's own split; the linear models are
trained here, on the same splits. The GPT is measured as it was trained: a calibration in its config is ignored, so
that the numbers are the same before and after one.

Numbers are means over the runs; their intervals (95 %) are percentiles of a bootstrap over the texts, where a text is
drawn with its near-copies, for all runs and models at once. How much the training's own chance moves the numbers,
benchmark.json shows by those of the single runs. `ece_by_chance` is the calibration error that a model which is right
about its probabilities would show on so few texts. A spam run on the book's split gets a table and a card of its own,
as its numbers are of other messages and some of them leak.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.sms_spam import leaked_rows
from ...utils.errors import InputError, UsageError
from ...utils.files import together, write_json, write_whole
from ...utils.provenance import environment, public_name
from ...utils.result_card import Metric, ResultCard
from ..intervals import percentiles
from ..metrics import mcnemar as mcnemar_test
from ..metrics import top_labels
from .baselines import CLASSIFIERS
from .outcomes import COUNTED, OURS, Evaluated, LabelOutcome, Outcome, evaluate, number_groups
from .runs import ClassifierRun, load_messages, open_run

METRICS = (*COUNTED, "pr_auc", "ece")  # of two labels
CONCLUDED = {"f1": "F1", "macro_f1": "macro F1"}  # the metrics that models are compared by


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
            [list(outcome.numbers(one.labels, times[one.groups]).values()) for outcome in one.outcomes.values()]
            for one in evaluated
        ]
        return np.mean(single, axis=0)

    rng = np.random.default_rng(seed)
    found = means(np.ones(n_groups))
    drawn = np.array(  # (resamples, models, metrics)
        [means(_draw_times(evaluated, rng)) for _ in trange(resamples, desc="resampling", disable=None)]
    )
    kept = list(evaluated[0].outcomes[OURS].numbers(evaluated[0].labels))

    def as_metrics(values, resampled) -> dict[str, Metric]:
        metrics = {}
        for name, value, drawn_values in zip(kept, values, resampled.T):
            interval = percentiles(drawn_values, value) if np.ptp(drawn_values) > 1e-9 else None
            metrics[name] = Metric(float(value), interval, higher_is_better=name != "ece")
        return metrics

    names = list(evaluated[0].outcomes)
    numbers = {name: as_metrics(found[i], drawn[:, i]) for i, name in enumerate(names)}
    for name, metrics in numbers.items():
        by_chance = np.mean([one.outcomes[name].ece_by_chance() for one in evaluated])
        metrics["ece_by_chance"] = Metric(float(by_chance), higher_is_better=False)
    differences = {
        name: as_metrics(found[0] - found[i], drawn[:, 0] - drawn[:, i]) for i, name in enumerate(names) if i
    }
    return numbers, differences


def _draw_times(evaluated: Sequence[Evaluated], rng: np.random.Generator) -> np.ndarray:
    """How often each group of texts is drawn, at least one of every run."""
    n_groups = 1 + max(one.groups.max() for one in evaluated)
    while True:
        times = rng.poisson(1, n_groups).astype(float)
        if all(times[one.groups].any() for one in evaluated):
            return times


def mcnemar(one: Evaluated, other: str) -> dict:
    """McNemar's exact test between ours and another model: texts that only one of the two judges rightly."""
    ours, theirs = (one.outcomes[name].is_right(one.labels) for name in (OURS, other))
    return {"split_seed": one.run.split_seed, **mcnemar_test(ours, theirs)}


def compared_by(numbers: Mapping[str, Mapping[str, Metric]]) -> str:
    """The metric that models are compared by: F1 of label 1 of two, or macro F1."""
    return next(name for name in CONCLUDED if name in next(iter(numbers.values())))


def best_linear(numbers: Mapping[str, Mapping[str, Metric]]) -> str:
    """The linear model with the highest F1."""
    metric = compared_by(numbers)
    return max(set(numbers) - {OURS}, key=lambda name: numbers[name][metric].value)


def conclusion(differences: Mapping[str, Mapping[str, Metric]], best: str, unit: str = "messages") -> str:
    """What the difference in F1 to the best linear model allows one to say."""
    metric = compared_by(differences)
    difference, shown = differences[best][metric], CONCLUDED[metric]
    if difference.interval is None:
        return f"The GPT cannot be told apart from the best linear model: {best} has the same {shown} on these {unit}."
    low, high = (100 * end for end in difference.interval)
    apart = f"{100 * difference.value:+.2f} points of {shown} from {best}'s, 95 % interval {low:+.2f} to {high:+.2f}"
    if low > 0:
        return f"The GPT is better than the best linear model: {apart}."
    if high < 0:
        return f"The GPT is worse than the best linear model: {apart}."
    return f"The GPT cannot be told apart from the best linear model: {apart}."


def open_runs(folders: Sequence[str], messages, protocol: str) -> list[ClassifierRun]:
    """
    The runs, each of this protocol and of a split of its own; raises `InputError` otherwise. Where the data has a
    split of its own, all runs have that.
    """
    runs = [open_run(folder, messages) for folder in folders]
    seen = {}
    for run in runs:
        run.require_both_labels()
        if run.protocol == "given":
            continue
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
        data_file, dataset_name: the texts, as for `load_messages`.

    Raises:
        InputError: when there are fewer than two runs, a folder is not that of a classifier, runs have the same split
            or another protocol, or were trained on other texts or labels.
    """
    if len(folders) < 2:
        raise UsageError(
            "Give at least two runs, trained with different --seed: one does not show how much the split matters."
        )
    messages = load_messages(folders[0], data_file, dataset_name)
    runs = open_runs(folders, messages, "grouped")
    if book and not runs[0].is_spam:
        raise UsageError("--book is for runs of the SMS collection; omit it.")
    books = open_runs([book], messages, "book") if book else []
    if output.is_file():
        raise InputError(f"{output} is a file; choose another --output_dir.")
    with together(output) as partial:  # found out before minutes of work
        return _measured(runs, books, messages, partial, command)


def _measured(
    runs: Sequence[ClassifierRun], books: Sequence[ClassifierRun], messages, output: Path, command: str
) -> Benchmark:
    """What `benchmark` has found, written into the folder `output`."""
    background = {
        "data": [{"source": public_name(messages.source), "sha256": messages.sha256}],
        "command": command,
        "environment": environment(),
    }
    group_numbers = number_groups(messages.texts)
    evaluated = [evaluate(run, group_numbers) for run in runs]
    numbers, differences = compare(evaluated)
    result = summarize(evaluated, numbers, differences)
    cards = {
        "spam_benchmark" if runs[0].is_spam else "benchmark": make_card(evaluated, numbers, differences, **background)
    }
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
            | {name: outcome.numbers(one.labels) for name, outcome in one.outcomes.items()}
            for one in evaluated
        ],
        "unit": evaluated[0].run.unit,
        "numbers": _plain(numbers),
        "differences": _plain(differences),
        "best_linear_model": best,
        "mcnemar": [mcnemar(one, best) for one in evaluated],
        "conclusion": conclusion(differences, best, evaluated[0].run.unit),
    }


def _plain(tables: Mapping[str, Mapping[str, Metric]]) -> dict:
    return {
        model: {name: {"value": metric.value, "interval": metric.interval} for name, metric in row.items()}
        for model, row in tables.items()
    }


def make_card(evaluated: Sequence[Evaluated], numbers: Mapping, differences: Mapping, **background) -> ResultCard:
    """The result card of `compare`'s two tables; `background` is its data, command and environment."""
    run, sizes = evaluated[0].run, sorted({len(one.labels) for one in evaluated})
    seeds, metric = [one.run.split_seed for one in evaluated], compared_by(numbers)
    shown_sizes = " to ".join(map(str, sizes[:: max(1, len(sizes) - 1)]))
    shares, spoken = ("spam", ", threshold 0.5") if run.is_spam else ("each label", "")
    splits = (
        f"the data's own split of {len(evaluated)} runs"
        if run.protocol == "given"
        else f"the grouped splits of the seeds {', '.join(map(str, seeds))}"
    )
    return ResultCard(
        task=f"{'SMS spam' if run.is_spam else 'text classification'} benchmark",
        protocol=f"mean over {splits}, each of {shown_sizes} test {run.unit}, natural share of {shares}, the GPT as"
        f" trained: no calibration{spoken}",
        metrics=numbers[OURS] | {f"{metric}_above_best_linear": differences[best_linear(numbers)][metric]},
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
    """Writes the files, and last the cards that speak for them."""
    write_whole(folder / "predictions.csv", predictions(evaluated))
    draw(evaluated, folder / "benchmark.png")
    write_json(folder / "benchmark.json", result)
    for name, card in cards.items():
        card.write(folder, name)


def draw(evaluated: Sequence[Evaluated], path: Path) -> None:
    """Reliability of each model, and of two labels also precision against recall, of the texts of all runs."""
    from ..plots import plot_classifiers, plot_reliability

    run, labels = evaluated[0].run, np.concatenate([one.labels for one in evaluated])
    said = {name: [one.outcomes[name] for one in evaluated] for name in evaluated[0].outcomes}
    if run.is_binary:
        models = {name: (labels, np.concatenate([one.probability for one in rows])) for name, rows in said.items()}
        plot_classifiers(models, path, run.names[1])
    else:
        models = {
            name: top_labels(labels, np.concatenate([one.probabilities for one in rows]))
            for name, rows in said.items()
        }
        plot_reliability(models, path, f"Calibration on the {len(labels)} test texts of {len(evaluated)} runs", None)


def predictions(evaluated: Sequence[Evaluated]) -> str:
    """Every test text of every run with its label and what each model says of it, as CSV."""
    import pandas as pd

    return pd.concat(
        pd.DataFrame(
            {
                "split_seed": one.run.split_seed,
                "text": one.run.splits["test"]["text"],
                "label": one.labels if one.run.is_binary else _named(one.labels, one.run.names),
                **{
                    title: values for name, said in one.outcomes.items() for title, values in _columns(one, name, said)
                },
            }
        )
        for one in evaluated
    ).to_csv(index=False)


def _columns(one: Evaluated, model: str, said: Outcome | LabelOutcome) -> list[tuple[str, Sequence]]:
    """What a model says, and its probability: of label 1 of two, else of the most probable label."""
    if one.run.is_binary:
        spam = one.run.names[1]
        return [(f"{model}: {spam}", said.is_spam.astype(int)), (f"{model}: probability", said.probability)]
    return [
        (f"{model}: label", _named(said.said, one.run.names)),
        (f"{model}: probability", said.probabilities.max(axis=-1)),
    ]


def _named(labels: np.ndarray, names: Sequence[str]) -> list[str]:
    if labels.ndim == 1:
        return [names[label] for label in labels]
    return [", ".join(name for name, has_it in zip(names, row) if has_it) for row in labels]
