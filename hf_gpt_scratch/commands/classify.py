"""`hf-gpt-scratch classify`: spam and ham told apart, message by message."""

import argparse
import json
import os
import sys
from collections.abc import Iterator

from ..utils.errors import InputError, UsageError
from ..utils.files import require_file, require_folder
from ..utils.terminal import quieten_transformers
from .arguments import add_device_options, placement, positive

RED, GREEN, RESET = "\033[31m", "\033[32m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a line for each message: its label, the probability (0 to 1) that it is spam, its text, with tabs"
        " between them. With --json, an object of the keys text, label, probability, truncated (whether the model"
        " could not read all of it) and, with --stream, words, each a word and the probability after it."
    )
    parser.epilog = "Example: hf-gpt-scratch classify runs/demo/spam --stream 'You have won a free prize'"
    parser.add_argument("dir", metavar="DIR", help="the folder of a trained spam classifier")
    parser.add_argument(
        "text",
        metavar="TEXT",
        nargs="*",
        default=[],
        help="messages, quoted; without any, one a line is read from stdin",
    )
    parser.add_argument("--file", help="read the messages from this file, one a line, none empty")
    parser.add_argument("--stream", action="store_true", help="show the probability of spam after each word")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each message")
    parser.add_argument("--batch-size", type=positive, default=32, help="messages per forward pass (default: 32)")
    add_device_options(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    if args.text and args.file:
        raise UsageError("Give messages or --file, not both.")
    require_folder(args.dir, "model folder")
    if args.file:
        require_file(args.file)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..classification.classifier import TextClassifier

    quieten_transformers()
    classifier = TextClassifier.from_pretrained(args.dir, **placement(args))
    colours = (GREEN, RED) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    reset = RESET if colours[0] else ""
    threshold = classifier.calibration.threshold
    typed = not (args.text or args.file) and sys.stdin.isatty()  # then each line is answered at once
    messages = list(_messages(args)) if args.file else _messages(args)  # a fault in a file is told before any result
    predictions = classifier.classify(messages, batch_size=1 if typed else args.batch_size)
    for number, prediction in enumerate(predictions, start=1):
        if prediction.truncated:
            limit = classifier.model.config.n_positions
            print(f"note: message {number} is longer than {limit} tokens; only those were read.", file=sys.stderr)
        words = classifier.word_probabilities(prediction.text) if args.stream else []
        if args.json:
            record = {
                "text": prediction.text,
                "label": prediction.label,
                "probability": prediction.probability,
                "truncated": prediction.truncated,
            }
            if args.stream:
                record["words"] = [{"word": word.strip(), "probability": value} for word, value in words]
            print(json.dumps(record, ensure_ascii=False), flush=True)
            continue
        for word, value in words:
            colour = colours[value > threshold]
            print(f"{colour}{value:7.1%} {'█' * round(20 * value):20} {word.strip()}{reset}", flush=True)
        colour = colours[prediction.probability > threshold]
        print(f"{colour}{prediction.label}{reset}\t{prediction.probability:.4f}\t{prediction.text}", flush=True)


def _messages(args: argparse.Namespace) -> Iterator[str]:
    """The messages to classify, from the command line, a file or standard input; an empty line is an error."""
    if args.text:
        yield from args.text
        return
    if not args.file and sys.stdin.isatty():
        print("Type a message a line; Ctrl-D ends.", file=sys.stderr)
    source = open(args.file, encoding="utf-8-sig") if args.file else sys.stdin  # noqa: SIM115 (closed below)
    with source:
        try:
            for number, line in enumerate(source, start=1):
                if not line.strip():
                    raise InputError(
                        f"Line {number} of {args.file or 'the input'} is empty; expected a message a line."
                    )
                yield line.rstrip("\r\n")
            if args.file and not os.path.getsize(args.file):
                raise InputError(f"{args.file} is empty; expected a message a line.")
        except UnicodeDecodeError as error:
            raise InputError(f"{args.file or 'The input'} is not UTF-8 text ({error.reason}).") from None
