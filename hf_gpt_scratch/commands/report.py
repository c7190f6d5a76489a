"""`hf-gpt-scratch report`: runs that were evaluated, side by side."""

import argparse

from ..utils.files import require_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compares runs that were evaluated: writes report.md with tables, a picture for each table, and report.json."
        " A table holds results of the same task, protocol and data only."
    )
    parser.epilog = "Example: hf-gpt-scratch report runs/demo/spam runs/demo/follower --output_dir runs/report"
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder with results/*.json")
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
    print(f"Wrote {path} ({tables} with a picture each) and {path.with_name('report.json')} for programs.")
