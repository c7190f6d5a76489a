"""`hf-gpt-scratch evaluate`: a language model measured by tasks of lm-evaluation-harness."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.errors import InputError, UsageError
from ..utils.files import require_folder, require_present
from ..utils.requirements import LM_EVAL, require_package
from .arguments import add_device_options, count, is_classifier, placement, positive

if TYPE_CHECKING:
    from ..utils.result_card import ResultCard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measures a language model on tasks of lm-evaluation-harness, next to the scores of guessing. Writes a result"
        " card for each of --tasks, results/TASK.json, and harness.json with the numbers of every sub-task."
    )
    parser.epilog = (
        "Example: hf-gpt-scratch evaluate openai-community/gpt2 --tasks wikitext --limit 10 --output_dir runs/gpt2"
    )
    parser.add_argument("dir", metavar="DIR", help="a model folder, an adapter's, or a Hub repository")
    parser.add_argument("--tasks", metavar="TASK", nargs="+", required=True, help="such as mmlu or wikitext")
    parser.add_argument(
        "--include_path",
        metavar="FOLDER",
        help="also find tasks in its YAML files",
    )
    parser.add_argument(
        "--num_fewshot",
        metavar="N",
        type=count,
        help="few-shot examples before each question (default: as the task says)",
    )
    parser.add_argument(
        "--limit", metavar="N", type=positive, help="only the first N documents of each task, for a trial"
    )
    parser.add_argument("--batch_size", metavar="N", type=positive, default=8, help="default: 8")
    add_device_options(parser)
    parser.add_argument("--output_dir", metavar="FOLDER", help="where to write (default: DIR)")
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python functions and the metrics that tasks name, if they are not the harness's own; read them"
        " first",
    )


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    require_present(args.dir)
    if not args.output_dir and not Path(args.dir).is_dir():
        raise UsageError(f"{args.dir} is not a local folder; give the folder to write with --output_dir.")
    if is_classifier(args.dir):
        raise InputError(
            f"{args.dir} holds a classifier, and evaluate is for language models; `hf-gpt-scratch calibrate"
            f" {shlex.quote(args.dir)}` measures it on its test set, `benchmark` compares several."
        )
    if _output(args).is_file():
        raise InputError(f"{_output(args)} is a file; choose another --output_dir.")
    if args.include_path:
        require_folder(args.include_path, purpose="to find tasks in")
    require_package(*LM_EVAL)


def _output(args: argparse.Namespace) -> Path:
    return Path(args.output_dir or args.dir)


def run(args: argparse.Namespace) -> None:
    """The command; raises `InputError` as `evaluate_tasks` does."""
    from ..evaluation.harness import evaluate_tasks
    from ..utils.provenance import own_command

    output = _output(args)
    cards = evaluate_tasks(
        args.dir,
        args.tasks,
        output,
        own_command(args.argv),
        include_path=args.include_path,
        num_fewshot=args.num_fewshot,
        limit=args.limit,
        batch_size=args.batch_size,
        trust_remote_code=args.trust_remote_code,
        **placement(args),
    )
    print(report(cards))
    print(f"Wrote {output / 'results'} (the cards) and {output / 'harness.json'} (the numbers of all sub-tasks).")


def report(cards: Sequence["ResultCard"]) -> str:
    """The cards' numbers as a table, how each was measured, and a sentence where guessing may do as well."""
    rows = [("task", "metric", "value", "95 % interval", "chance", "most frequent answer")]
    notes = []
    for card in cards:
        notes.append(f"{card.task}: {card.protocol}.")
        for name, metric in card.metrics.items():
            blind = [scores[name].value for scores in card.baselines.values() if name in scores]
            interval = "" if metric.interval is None else " to ".join(f"{end:.4f}" for end in metric.interval)
            rows.append((card.task, name, f"{metric.value:.4f}", interval, *(f"{value:.4f}" for value in blind)))
            if blind and metric.interval is None:
                notes.append(f"{card.task}: too few documents to tell its {name} from guessing.")
            elif blind and metric.interval[0] <= max(blind):
                notes.append(
                    f"{card.task}: its {name} is no better than guessing: choosing blindly gives {blind[0]:.4f},"
                    f" always the most frequent answer {blind[1]:.4f}."
                )
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, *notes])
