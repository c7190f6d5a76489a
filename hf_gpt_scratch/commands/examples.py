"""`hf-gpt-scratch examples`: small data sets to try the package with, copied into a folder."""

import argparse
import shlex
from pathlib import Path

from ..utils.errors import InputError
from ..utils.files import remove_left_in, together, write_whole

IS_LIGHT = True
# What can be done with a file, as a command in which {} stands for its path.
NEXT = {
    "tickets.csv": "hf-gpt-scratch train classify cpu_small --data_file {} --outside_labels other --output_dir"
    " runs/tickets",
    "airline.jsonl": "hf-gpt-scratch train chat airline --data_file {} --output_dir runs/airline",
    "academic.jsonl": "hf-gpt-scratch train chat academic --data_file {} --output_dir runs/academic",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Copies the example data of this package into a folder, and prints a command to go
on with for each file:

tickets.csv     300 messages to a support team about 4 topics (account, billing,
                delivery, technical), and 40 about something else (other)
airline.jsonl   200 questions to an airline, each with its answer and 5 other
                wordings, and 60 questions that are to be refused
academic.jsonl  the same of a university"""
    parser.epilog = "Example: hf-gpt-scratch examples my_examples"
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="examples", help="default: examples")


def check(args: argparse.Namespace) -> None:
    """What can be checked before anything is written."""
    folder = Path(args.folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder.")
    there = [folder / file.name for file in data_files() if (folder / file.name).exists()]
    # Some of our own files alone are what a command left that was killed
    is_begun = len(there) < len(data_files()) and all(map(_is_ours, there))
    if there and not is_begun:
        remove_left_in(folder)
        raise InputError(f"{', '.join(map(str, there))} already exists; name another folder, or delete it first.")


def run(args: argparse.Namespace) -> None:
    """The command: writes all files or, where one cannot be written, none."""
    folder = Path(args.folder)
    files = {folder / file.name: file for file in data_files()}
    with together(folder) as partial:
        for path, file in files.items():
            write_whole(partial / path.name, file.read_bytes())
    for path in files:
        print(f"Wrote {path}.")
        if path.name in NEXT:
            print(f"  next: {NEXT[path.name].format(shlex.quote(str(path)))}")


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes() == (data_files()[0].parent / path.name).read_bytes()


def data_files() -> list[Path]:
    """The files of data that come with the package, by name."""
    # By its path: importing the package, to ask it, takes seconds
    folder = Path(__file__).parents[1] / "example_data"
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".py")
