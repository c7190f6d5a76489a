"""`hf-gpt-scratch calibrate`: the probabilities and the threshold of a spam classifier."""

import argparse
import shlex
from typing import TYPE_CHECKING

from ..utils.errors import UsageError
from .arguments import (
    add_device_options,
    add_messages,
    check_messages,
    placement,
    probability,
    require_local,
    require_spam_run,
)

if TYPE_CHECKING:
    from ..evaluation.text_classification.calibration import Fitted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Fits the probabilities and the threshold of a spam classifier to its validation set, and keeps them in its config.

The temperature (Guo et al. 2017) makes the probabilities fit the labels best. `--precision X` sets the threshold that
catches the most spam at a precision of at least X, with 95 % confidence; a small validation set can promise little,
and the command then says how much. `--prevalence P` is for use where another share of the messages is spam. Prints the
numbers of the test set before and after, and writes them to DIR/results/calibration.json, with a picture in
DIR/plots/calibration.png. `hf-gpt-scratch classify` and the pages then use the calibration."""
    parser.epilog = "Example: hf-gpt-scratch calibrate runs/demo/spam"
    parser.add_argument("dir", metavar="DIR", help="an output folder of `hf-gpt-scratch train spam`")
    add_messages(parser, "the messages it was trained on (default: the same file or data set)")
    parser.add_argument("--precision", type=probability, help="precision to keep (default: a threshold of 0.5)")
    parser.add_argument("--prevalence", type=probability, help="share of spam (default: that of the validation set)")
    add_device_options(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    if args.prevalence == 1 or args.precision == 1:
        raise UsageError("--precision and --prevalence must be below 1.")
    require_local(args.dir, "calibrate", "since it needs metrics.json, which is never pushed")
    require_spam_run(args.dir, "calibrate")
    check_messages(args)


def run(args: argparse.Namespace) -> None:
    """The command; raises `InputError` as `calibrate` does."""
    from ..evaluation.text_classification.calibration import calibrate
    from ..utils.provenance import own_command

    command = own_command(args.argv)
    options = (args.precision, args.prevalence, args.data_file, args.dataset_name)
    print(report(calibrate(args.dir, command, *options, **placement(args))))


def report(fitted: "Fitted") -> str:
    """The test set's numbers as a table, what config.json now holds, and what that promises."""
    numbers, folder = fitted.numbers, fitted.run.folder
    lines = [f"{'test set':20}" + "".join(f"{name:>24}" for name in numbers)]
    for name in next(iter(numbers.values())):
        lines.append(f"{name:20}" + "".join(f"{_cell(metrics[name]):>24}" for metrics in numbers.values()))
    found = fitted.calibration
    values = f"temperature {found.temperature:.3f}, shift {found.shift:.3f}, threshold {found.threshold:.4f}"
    lines.append(f"Wrote {folder / 'config.json'} ({values}).")
    if fitted.promised is not None:
        share = f"{fitted.prevalence:.1%}"
        lines.append(
            f"Precision is at least {fitted.promised:.3f} with 95 % confidence where {share} of the messages are spam."
        )
    lines.append(f"Wrote {folder / 'results' / 'calibration.json'} and {folder / 'plots' / 'calibration.png'}.")
    lines.append(f'Next: hf-gpt-scratch classify {shlex.quote(str(folder))} "Win a free prize now"')
    return "\n".join(lines)


def _cell(metric) -> str:
    interval = "" if metric.interval is None else " ({:.3f}-{:.3f})".format(*metric.interval)
    return f"{metric.value:.4f}{interval}"
