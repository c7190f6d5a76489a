"""`hf-gpt-scratch classify`: spam and ham told apart, message by message."""

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..utils.errors import InputError, UsageError
from ..utils.files import require_file
from ..utils.terminal import quieten_transformers
from .arguments import add_device_options, placement, positive, require_model

if TYPE_CHECKING:
    from ..classification.classifier import Prediction, TextClassifier

RED, GREEN, RESET = "\033[31m", "\033[32m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Prints a line for each message: its label, the probability (0 to 1) that it is
spam, and its text, separated by tabs. An empty line of a file or of stdin gives
"-", "-" and no text, so that line n of the output is about line n of the input.

With --json each line is an object with the keys text, label, probability,
threshold (spam is above it) and truncated (whether the message is longer than
the model reads); with --stream also words, a list of words, each with the
probability after it. Label and probability of an empty line are null."""
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch classify runs/demo/spam 'You have won a free prize' --stream\n"
        "  hf-gpt-scratch classify runs/demo/spam --file messages.txt --json\n"
        "  hf-gpt-scratch classify you/spam 'See you at home'"
    )
    parser.add_argument("dir", metavar="DIR", help="a folder or Hub repository (owner/name) of a trained classifier")
    parser.add_argument(
        "text",
        metavar="TEXT",
        nargs="*",
        default=[],
        help="messages, each in quotes; several words without quotes are one message (default: read stdin, a message"
        " a line)",
    )
    parser.add_argument("--file", help="read the messages from this file, one a line")
    parser.add_argument("--stream", action="store_true", help="show the probability of spam after each word")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each message")
    parser.add_argument("--batch-size", type=positive, default=32, help="messages per forward pass (default: 32)")
    add_device_options(parser)


def check(args: argparse.Namespace) -> None:
    """What can be checked before torch is imported."""
    if args.text and args.file:
        raise UsageError("Give messages or --file, not both.")
    require_model(args.dir)
    if args.file:
        require_file(args.file)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..classification.classifier import TextClassifier

    quieten_transformers()
    classifier = TextClassifier.from_pretrained(args.dir, **placement(args))
    typed = not (args.text or args.file) and sys.stdin.isatty()  # then each line is answered at once
    messages = list(_messages(args, typed)) if args.file else _messages(args, typed)  # a fault in a file comes first
    predictions = predict(classifier, messages, batch_size=1 if typed else args.batch_size)
    output = _Output(classifier, args.json, args.stream, explains_each=typed or bool(args.text))
    for number, prediction in enumerate(predictions, start=1):
        output.show(number, prediction)
    output.end()


def predict(classifier: "TextClassifier", messages: Iterable[str], batch_size: int) -> Iterator["Prediction | None"]:
    """The prediction of each message, in order; `None` for an empty one."""
    empty = deque()  # of each message that was read and not answered: whether it is

    def with_text() -> Iterator[str]:
        for message in messages:
            empty.append(not message.strip())
            if message.strip():
                yield message

    for prediction in classifier.classify(with_text(), batch_size):
        while empty.popleft():
            yield None
        yield prediction
    yield from (None for _ in empty)


class _Output:
    """
    Prints predictions, and on stderr what they do not say by themselves.

    Args:
        explains_each: whether a label that the calibrated threshold decided is explained at once, or all are counted
            at the end.
    """

    def __init__(self, classifier: "TextClassifier", as_json: bool, with_words: bool, explains_each: bool):
        self.classifier, self.threshold = classifier, classifier.calibration.threshold
        self.as_json, self.with_words, self.explains_each = as_json, with_words, explains_each
        has_colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.colours, self.reset = ((GREEN, RED), RESET) if has_colours else (("", ""), "")
        self.empty = self.between = 0

    def show(self, number: int, prediction: "Prediction | None") -> None:
        if prediction is None:
            self.empty += 1
            print(json.dumps(self._record("", None, None, False, [])) if self.as_json else "-\t-\t", flush=True)
            return
        if prediction.truncated:
            limit = self.classifier.model.config.n_positions
            _note(f"message {number} is longer than {limit} tokens; only those were read.")
        words = self.classifier.word_probabilities(prediction.text) if self.with_words else []
        label, probability = prediction.label, prediction.probability
        if self.as_json:
            record = self._record(prediction.text, label, probability, prediction.truncated, words)
            print(json.dumps(record, ensure_ascii=False), flush=True)
        else:
            for word, value in words:
                bar = "█" * round(20 * value)
                print(f"{self._coloured(f'{value:7.1%} {bar:20} {word.strip()}', value)}", flush=True)
            print(f"{self._coloured(label, probability)}\t{probability:.4f}\t{prediction.text}", flush=True)
        self._explain(label, probability)

    def _record(self, text: str, label, probability, truncated: bool, words: list) -> dict:
        record = {"text": text, "label": label, "probability": probability, "threshold": self.threshold}
        record["truncated"] = truncated
        if self.with_words:
            record["words"] = [{"word": word.strip(), "probability": value} for word, value in words]
        return record

    def _coloured(self, text: str, probability: float) -> str:
        return f"{self.colours[probability > self.threshold]}{text}{self.reset}"

    def _explain(self, label: str, probability: float) -> None:
        """Where the calibrated threshold, and not 0.5, made the label."""
        if (probability > 0.5) == (probability > self.threshold):
            return
        self.between += 1
        if self.explains_each:
            side = "above" if probability > self.threshold else "below"
            _note(f"{label}: {probability:.4g} is {side} the threshold {self.threshold:.4g} of the calibration.")

    def end(self) -> None:
        """The counts."""
        if self.empty:
            _note(f"{self.empty} empty {'line was' if self.empty == 1 else 'lines were'} not classified.")
        if self.between and not self.explains_each:
            are = "message has a probability" if self.between == 1 else "messages have probabilities"
            _note(f"{self.between} {are} between 0.5 and the threshold {self.threshold:.4g} of the calibration.")


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr)


def _messages(args: argparse.Namespace, typed: bool) -> Iterator[str]:
    """The messages to classify, from the command line, a file or standard input."""
    if args.text:
        yield from _quoted(args.text)
        return
    if typed:
        print("Type a message a line; Ctrl-D ends.", file=sys.stderr)
    source = open(args.file, encoding="utf-8-sig") if args.file else sys.stdin  # noqa: SIM115 (closed below)
    with source:
        try:
            for line in source:
                if line.strip() or not typed:
                    yield line.rstrip("\r\n")
            if args.file and not os.path.getsize(args.file):
                raise InputError(f"{args.file} is empty; expected a message a line.")
        except UnicodeDecodeError as error:
            raise InputError(f"{args.file or 'The input'} is not UTF-8 text ({error.reason}).") from None


def _quoted(texts: list[str]) -> list[str]:
    """The messages of the command line; several of a single word each are one message without its quotes."""
    if not all(text.strip() for text in texts):
        raise InputError("A message is empty.")
    if len(texts) == 1 or any(len(text.split()) > 1 for text in texts):
        return texts
    message = " ".join(texts)
    _note(f"read as one message: {message!r}. Put a message in quotes; give several single words with --file.")
    return [message]
