"""`hf-gpt-scratch benchmark`: classifiers beside linear models."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.errors import UsageError
from .arguments import add_messages, check_messages, require_local, require_spam_run

if TYPE_CHECKING:
    from ..utils.result_card import Metric


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Compares classifiers with linear models on the same splits, with 95 % intervals for everything.

Each DIR is an output folder of `hf-gpt-scratch train spam`, grouped protocol, or of `hf-gpt-scratch train classify`,
each with another seed; the linear models are trained here, on the same splits. The GPT is measured as it was trained,
without a calibration. `--book DIR` adds a spam run on the book's split, in a table and a result card of its own: it
has other test messages, and some of them are in its training set too. Writes benchmark.json, predictions.csv,
benchmark.png and results/ into `--output_dir`."""
    parser.epilog = "Example: hf-gpt-scratch benchmark runs/spam-1 runs/spam-2 --output_dir runs/spam_benchmark"
    parser.add_argument(
        "dirs",
        metavar="DIR",
        nargs="+",
        help="output folders of `hf-gpt-scratch train spam` or `hf-gpt-scratch train classify`",
    )
    parser.add_argument("--book", metavar="DIR", help="a spam run that was trained with --protocol book")
    add_messages(parser, "the texts they were trained on (default: those of the first DIR)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/spam_benchmark"), help="default: %(default)s")


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    if len(args.dirs) < 2:
        raise UsageError(
            "Give at least two runs, trained with different --seed: one does not show how much the split matters."
        )
    for folder in (*args.dirs, *([args.book] if args.book else [])):
        require_local(folder, "benchmark", "since it needs metrics.json, which is never pushed")
        require_spam_run(folder, "benchmark")
    check_messages(args)


def run(args: argparse.Namespace) -> None:
    """The command; raises `InputError` as `benchmark` does."""
    from ..evaluation.text_classification.benchmark import benchmark
    from ..utils.provenance import own_command

    command = own_command(args.argv)
    done = benchmark(args.dirs, args.output_dir, command, args.book, args.data_file, args.dataset_name)
    print(report(done.result, done.numbers))
    if done.book_numbers is not None:
        print(f"{done.cards['spam_benchmark_book'].protocol}:\n{table(done.book_numbers)}")
    print(f"Wrote {args.output_dir} (benchmark.json, benchmark.png, predictions.csv, results/).")


def report(result: Mapping, numbers: Mapping[str, Mapping[str, "Metric"]]) -> str:
    """The result of `summarize` as text: the table, the tests and the conclusion."""
    lines = [table(numbers)]
    for test in result["mcnemar"]:
        lines.append(
            "split {split_seed}: {only_ours_right} {unit} only the GPT got right, {only_theirs_right} only {best}"
            " (McNemar p = {p_value:.2f})".format(best=result["best_linear_model"], unit=result["unit"], **test)
        )
    lines.append(result["conclusion"])
    return "\n".join(lines)


def table(numbers: Mapping[str, Mapping[str, "Metric"]]) -> str:
    """A line for each model, its numbers above their intervals."""
    lines = [f"{'':30}" + "".join(f"{name:>18}" for name in next(iter(numbers.values())))]
    for model, row in numbers.items():
        cells = (f"{metric.value:.4f}" for metric in row.values())
        spans = ("{:.3f} to {:.3f}".format(*metric.interval) if metric.interval else "-" for metric in row.values())
        lines += [f"{model:30}" + "".join(f"{cell:>18}" for cell in line) for line in (cells, spans)]
        lines[-1] = lines[-1].replace(model, " " * len(model), 1)
    return "\n".join(lines)
