"""`hf-gpt-scratch calibrate`: the probabilities and the threshold of a spam classifier."""

import argparse
from typing import TYPE_CHECKING

from ..utils.errors import UsageError
from ..utils.files import require_folder
from .arguments import add_device_options, add_messages, check_messages, placement, probability

if TYPE_CHECKING:
    from ..evaluation.text_classification.calibration import Fitted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Fits the probabilities and the threshold of a spam classifier to its validation set, and keeps them in its config.

The temperature makes the probabilities as likely as they can be. `--precision X` then sets the threshold to the one
that catches the most spam of those with a precision of at least X, even if the share of ham taken for spam is as high
as the validation set leaves possible. `--prevalence P` is for messages of which another share is spam. What becomes of
the test set is shown, written to DIR/results/calibration.json and drawn in DIR/plots/calibration.png.
`hf-gpt-scratch classify` applies it."""
    parser.epilog = "Example: hf-gpt-scratch calibrate runs/spam --precision 0.95"
    parser.add_argument("dir", metavar="DIR", help="an output folder of `hf-gpt-scratch train spam`")
    add_messages(parser, "the messages it was trained on (default: the file that it read)")
    parser.add_argument("--precision", type=probability, help="that the threshold must keep (default: threshold 0.5)")
    parser.add_argument("--prevalence", type=probability, help="share of spam (default: that of the validation set)")
    add_device_options(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    if args.prevalence == 1 or args.precision == 1:
        raise UsageError("--precision and --prevalence must be below 1.")
    require_folder(args.dir)
    check_messages(args)


def run(args: argparse.Namespace) -> None:
    """The command; raises `InputError` as `calibrate` does."""
    from ..evaluation.text_classification.calibration import calibrate
    from ..utils.provenance import own_command

    command = own_command(args.argv)
    options = (args.precision, args.prevalence, args.data_file, args.dataset_name)
    print(report(calibrate(args.dir, command, *options, **placement(args))))


def report(fitted: "Fitted") -> str:
    """The test set's numbers as a table, what config.json keeps, and what that promises."""
    numbers, folder = fitted.numbers, fitted.run.folder
    lines = [f"{'test set':20}" + "".join(f"{name:>24}" for name in numbers)]
    for name in next(iter(numbers.values())):
        lines.append(f"{name:20}" + "".join(f"{_cell(metrics[name]):>24}" for metrics in numbers.values()))
    found = fitted.calibration
    values = f"Temperature {found.temperature:.3f}, shift {found.shift:.3f}, threshold {found.threshold:.4f}"
    lines.append(f"{values}, kept in {folder / 'config.json'}.")
    if fitted.promised is not None:
        share = f"{fitted.prevalence:.1%}"
        lines.append(f"By the validation set, precision is at least {fitted.promised:.3f} where {share} are spam.")
    lines.append(f"The numbers are in {folder / 'results'}, their picture in {folder / 'plots'}.")
    return "\n".join(lines)


def _cell(metric) -> str:
    interval = "" if metric.interval is None else " ({:.3f}-{:.3f})".format(*metric.interval)
    return f"{metric.value:.4f}{interval}"
