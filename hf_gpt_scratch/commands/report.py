"""`hf-gpt-scratch report`: runs that were evaluated, side by side."""

import argparse

from ..utils.files import require_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draws the comparison of runs that were evaluated: report.md with tables, a picture for each table and"
        " report.json. Only results of the same task, protocol and data stand in one table."
    )
    parser.epilog = "Example: hf-gpt-scratch report runs/spam runs/spam-lora --output_dir runs/report"
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, in which results/*.json are")
    parser.add_argument("--output_dir", metavar="DIR", default="runs/report", help="default: runs/report")


def check(args: argparse.Namespace) -> None:
    """What can be seen before anything heavy is imported."""
    for folder in args.runs:
        require_folder(folder)


def run(args: argparse.Namespace) -> None:
    """The command; raises `InputError` as `read_groups` does."""
    from ..evaluation.report import read_groups, write_report

    groups = read_groups(args.runs)
    path = write_report(groups, args.output_dir)
    tables = "1 table" if len(groups) == 1 else f"{len(groups)} tables"
    print(f"The comparison, {tables} with a picture each, is in {path}; report.json beside it is for programs.")
