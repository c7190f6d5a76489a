"""`hf-gpt-scratch calibrate`: the probabilities, thresholds and early verdicts of a classifier."""

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..utils.errors import UsageError
from .arguments import (
    add_device_options,
    add_messages,
    check_messages,
    placement,
    probability,
    refuse_onnx,
    require_local,
    require_spam_run,
)

if TYPE_CHECKING:
    from ..evaluation.text_classification.calibration import Fitted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Fits the probabilities and thresholds of a classifier to its validation set, and keeps them in its config.

The temperature (Guo et al. 2017) makes the probabilities fit the labels best. `--precision X` promises that at least X
of what is said is right, with 95 % confidence: of two labels the threshold catches the most of label 1 (spam) at that
precision, of more labels the answers that are not sure enough become "outside", and where a text may have several each
label has a threshold of its own (without `--precision` that of the highest F1). A small validation set can promise
little, and the command then says how much. `--prevalence P` is for use where another share of the texts is of label 1
of two.

Where the run was trained with `--outside_labels`, a threshold on the highest probability is fitted that tells their
texts as "outside" and refuses at most the share `--refuse` of the others in the validation set; on other texts, such
as the test set, it can be more. Where no threshold is worth it, none is kept, and the command says so.

For `classify --decide_at`, thresholds on the confidence after a word are fitted, and what an early verdict costs.
Prints the numbers of the test set and writes them to DIR/results (calibration.json, early.json, outside.json), with a
picture in DIR/plots/calibration.png. `hf-gpt-scratch classify`, the pages and the model's pipeline then use the
calibration."""
    parser.epilog = "Example: hf-gpt-scratch calibrate runs/demo/spam"
    parser.add_argument(
        "dir", metavar="DIR", help="an output folder of `hf-gpt-scratch train spam` or `hf-gpt-scratch train classify`"
    )
    add_messages(parser, "the texts it was trained on (default: the same file or data set)")
    parser.add_argument(
        "--precision",
        type=probability,
        help="precision to keep (default: a threshold of 0.5, or with several labels a text that of the highest F1)",
    )
    parser.add_argument(
        "--prevalence", type=probability, help="share of label 1 of two (default: that of the validation set)"
    )
    parser.add_argument(
        "--refuse",
        type=probability,
        default=0.1,
        help="share of the validation texts of its labels that may be answered as outside; on other texts it can be"
        " more (default: %(default)s)",
    )
    add_device_options(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    if args.prevalence == 1 or args.precision == 1:
        raise UsageError("--precision and --prevalence must be below 1.")
    require_local(args.dir, "calibrate", "since it needs metrics.json, which is never pushed")
    refuse_onnx(args.dir)
    require_spam_run(args.dir, "calibrate")
    check_messages(args)


def run(args: argparse.Namespace) -> None:
    """The command; raises `InputError` as `calibrate` does."""
    from ..evaluation.text_classification.calibration import calibrate
    from ..utils.provenance import own_command

    command = own_command(args.argv)
    options = (args.precision, args.prevalence, args.refuse, args.data_file, args.dataset_name)
    print(report(calibrate(args.dir, command, *options, **placement(args))))


def report(fitted: "Fitted") -> str:
    """The test set's numbers as a table, what config.json now holds, and what that promises."""
    numbers, folder, run = fitted.numbers, fitted.run.folder, fitted.run
    lines = [f"{'test set':20}" + "".join(f"{name:>24}" for name in numbers)]
    for name in next(iter(numbers.values())):
        lines.append(f"{name:20}" + "".join(f"{_cell(metrics[name]):>24}" for metrics in numbers.values()))
    lines += [*_outside_lines(fitted), *_early_lines(fitted), *(f"note: {note}" for note in fitted.notes)]
    lines.append(f"Wrote {folder / 'config.json'} ({_values(fitted)}).")
    if fitted.promised is not None:
        of_what = f" where {fitted.prevalence:.1%} of the {run.unit} are {run.names[1]}" if run.is_binary else ""
        each = " of each label" if run.is_multi_label else ""
        lines.append(f"Precision{each} is at least {fitted.promised:.3f} with 95 % confidence{of_what}.")
    lines.append(f"Wrote {folder / 'results' / 'calibration.json'} and {folder / 'plots' / 'calibration.png'}.")
    example = '"Win a free prize now"' if run.is_spam else shlex.quote(_example(run.splits["test"]["text"]))
    lines.append(f"Next: hf-gpt-scratch classify {shlex.quote(str(folder))} {example}")
    return "\n".join(lines)


def _values(fitted: "Fitted") -> str:
    """The calibration, in short."""
    found = fitted.calibration
    values = [f"temperature {found.temperature:.3f}"]
    if fitted.run.is_binary:
        values += [f"shift {found.shift:.3f}", f"threshold {found.threshold:.4f}"]
    elif isinstance(found.threshold, list):
        low, high = min(found.threshold), max(found.threshold)
        values.append(f"threshold {low:.4f}" if low == high else f"thresholds {low:.4f} to {high:.4f}")
    if found.outside_threshold is not None:
        values.append(f"outside_threshold {found.outside_threshold:.4f}")
    return ", ".join(values)


def _outside_lines(fitted: "Fitted") -> list[str]:
    """What the outside answer does, in a sentence."""
    if not (found := fitted.outside):
        return []
    told, refused, auroc = (_share(found.metrics[name]) for name in ("outside_told", "inside_refused", "auroc"))
    return [
        f"Outside: {found.told} of {found.texts} texts of other labels are told ({told}), and {found.refused} of"
        f" {found.inside_texts} texts of its own labels are refused ({refused}); AUROC {auroc}."
    ]


def _early_lines(fitted: "Fitted") -> list[str]:
    """A line for each agreement that `classify --decide_at` can be asked for, and what its columns are."""
    from ..evaluation.text_classification.calibration import says_outside

    names = ("agreement", "error", "words_read")
    lines = [f"{'classify --decide_at':20}" + "".join(f"{name:>24}" for name in ("threshold", *names))]
    alike: dict[float, list[str]] = {}
    for name, verdicts in fitted.early.items():
        alike.setdefault(verdicts.threshold, []).append(name)
    rows = [(f"{group[0]} to {group[-1]}" if group[1:] else group[0], group[0]) for group in alike.values()]
    for shown, name in [*rows, ("the whole text", None)]:
        verdicts = fitted.whole if name is None else fitted.early[name]
        cells = ["" if name is None else f"{verdicts.threshold:.4f}", *(_cell(verdicts.metrics[one]) for one in names)]
        lines.append(f"{shown:20}" + "".join(f"{cell:>24}" for cell in cells))
    outside = ", also where it is 'outside'" if says_outside(fitted.calibration) else ""
    lines.append(
        f"agreement: the early verdict is that on the whole text; error: it is not the text's own label{outside};"
        " words_read: share of all words."
    )
    return lines


def _example(texts: Sequence[str]) -> str:
    """The beginning of a short text."""
    return " ".join(min(texts, key=lambda text: abs(len(text) - 40)).split())[:60]


def _share(metric) -> str:
    return f"{metric.value:.2f}" + ("" if metric.interval is None else " ({:.2f}-{:.2f})".format(*metric.interval))


def _cell(metric) -> str:
    interval = "" if metric.interval is None else " ({:.3f}-{:.3f})".format(*metric.interval)
    return f"{metric.value:.4f}{interval}"
