"""How `hf-gpt-scratch classify` prints what a classifier says, and on stderr what that does not say by itself."""

import os
import sys
from itertools import cycle
from typing import TYPE_CHECKING

from ..utils.console import bar
from ..utils.terminal import json_line, plain, plain_line

if TYPE_CHECKING:
    from ..classification.classifier import Prediction, TextClassifier, WordReading

RED, GREEN, RESET = "\033[31m", "\033[32m", "\033[0m"
OTHERS = ("\033[34m", "\033[33m", "\033[35m", "\033[36m", GREEN, RED)  # of more than two labels
OUTSIDE = "\033[2m"


class Output:
    """
    Prints predictions.

    Args:
        with_words: also what is said after each word.
        decide_at: also after which word the verdict is as good as final.
        explains_each: whether a label that the calibration's thresholds decided is explained at once, or all are
            counted at the end.
    """

    def __init__(
        self,
        classifier: "TextClassifier",
        as_json: bool = False,
        with_words: bool = False,
        decide_at: float | None = None,
        explains_each: bool = False,
    ):
        self.classifier, self.calibration = classifier, classifier.calibration
        self.as_json, self.with_words, self.explains_each = as_json, with_words, explains_each
        self.decide_at = decide_at
        self.is_binary = len(classifier.labels) == 2 and not self.calibration.is_multi_label
        self.threshold = self.calibration.threshold
        has_colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        colours = (GREEN, RED) if self.is_binary else cycle(OTHERS)
        self.colours = dict(zip(classifier.labels, colours)) if has_colours else None
        self.width = max(len(plain_line(label)) for label in classifier.labels)
        self.empty = self.between = self.outside = self.cut = 0

    def show(self, number: int, prediction: "Prediction | None") -> None:
        """Prints a prediction, the one of that number; `None` stands for an empty text."""
        if prediction is None:
            self.empty += 1
            print(json_line(self._record(None, [])) if self.as_json else self._line(None), flush=True)
            return
        if prediction.truncated:
            note(f"message {number} is longer than {self._limit()}; only {self._what_was_read()}.")
        words = prediction.words
        if self.as_json:
            print(json_line(self._record(prediction, words)), flush=True)
        else:
            for place, word in enumerate(words, start=1):
                print(self._word(word) + self._mark(prediction, place, len(words), _names(word)), flush=True)
            print(self._line(prediction), flush=True)
        self.count(prediction)

    def count(self, prediction: "Prediction") -> None:
        """Remembers for `end`, or explains at once, that the calibration's thresholds, not 0.5, made the label."""
        self.cut += prediction.truncated
        if prediction.is_outside:
            self.outside += 1
            if self.explains_each:
                best = max(range(len(prediction.probabilities)), key=prediction.probabilities.__getitem__)
                name, value = self.classifier.labels[best], prediction.probabilities[best]
                why = "is not probable enough by the thresholds of `calibrate`"
                note(f"{prediction.label}: the most probable label, {name} with {value:.4g}, {why}.")
        elif self.is_binary and (prediction.probability > 0.5) != (prediction.probability > self.threshold):
            self.between += 1
            if self.explains_each:
                side = "above" if prediction.probability > self.threshold else "below"
                value = f"{prediction.probability:.4g} is {side} the threshold {self.threshold:.4g}"
                note(f"{prediction.label}: {value} of the calibration.")

    def end(self) -> None:
        """The counts."""
        if self.empty:
            note(f"{self.empty} empty {'line was' if self.empty == 1 else 'lines were'} not classified.")
        if self.between and not self.explains_each:
            are = "message has a probability" if self.between == 1 else "messages have probabilities"
            note(f"{self.between} {are} between 0.5 and the threshold {self.threshold:.4g} of the calibration.")
        if self.outside and not self.explains_each:
            texts = "1 text is" if self.outside == 1 else f"{self.outside} texts are"
            said = repr(self.calibration.outside_label)
            note(f"{texts} answered with {said}: no label is probable enough by the thresholds of `calibrate`.")

    def _limit(self) -> str:
        return f"{self.classifier.model.config.n_positions} tokens"

    def _what_was_read(self) -> str:
        is_last = self.classifier.model.config.long_texts == "last"
        return f"the last {self._limit()} were read" if is_last else "those were read"

    def note_cut(self) -> None:
        """How many texts were not read to the end, where `show` has not said so of each."""
        if self.cut:
            are, its = ("text is", "its") if self.cut == 1 else ("texts are", "their")
            read = f"{its} {self.classifier.model.config.long_texts} {self._limit()}"
            note(f"{self.cut} {are} longer than the model reads; only {read} were read.")

    def _line(self, prediction: "Prediction | None") -> str:
        place = "" if self.decide_at is None else f"{prediction and prediction.decided_at or '-'}\t"
        if prediction is None:
            return f"-\t-\t{place}"
        text = " ".join(plain(prediction.text).splitlines())  # a line for each message
        said = self._coloured(_names(prediction), prediction.label)
        return f"{said}\t{prediction.probability:.4f}\t{place}{text}"

    def _mark(self, prediction: "Prediction", place: int, count: int, name: str) -> str:
        """What is said beside a word about the early verdict: that it is there, or at the end that there was none."""
        if self.decide_at is None or place != (prediction.decided_at or count):
            return ""
        return f"  <- {name}, {'as good as final' if prediction.decided_at else 'final not before the end'}"

    def _word(self, word: "WordReading") -> str:
        value, name = word.probability, _names(word)
        label = "" if self.is_binary else f"{name:{self.width}} "
        return self._coloured(f"{value:7.1%} {bar(round(20 * value)):20} {label}{plain_line(word.word)}", word.label)

    def _coloured(self, text: str, label: str) -> str:
        return text if self.colours is None else f"{self.colours.get(label, OUTSIDE)}{text}{RESET}"

    def _record(self, prediction: "Prediction | None", words: list["WordReading"]) -> dict:
        """The object of --json; with two labels the keys that it always had."""
        found = prediction and {
            "text": prediction.text,
            **self._said(prediction),
            "probabilities": dict(zip(self.classifier.labels, prediction.probabilities)),
            "threshold": self.threshold,
            "truncated": prediction.truncated,
        }
        names = ["text", "label", "probability", "threshold", "truncated"]
        if not self.is_binary:
            names[1:4] = ["label", *["labels"] * self.calibration.is_multi_label, "probability", "probabilities"]
        record = found or {"text": "", "truncated": False, "threshold": self.threshold}
        record = {name: record.get(name) for name in names}
        if self.decide_at is not None:
            record["decided_at"] = prediction and prediction.decided_at
            record["decided_label"] = prediction and prediction.decided_label
        if self.with_words:
            record["words"] = [{"word": word.word.strip(), **self._said(word)} for word in words]
            if self.is_binary:
                record["words"] = [{key: one[key] for key in ("word", "probability")} for one in record["words"]]
        return record

    def _said(self, said: "Prediction | WordReading") -> dict:
        labels = {"labels": list(said.labels)} if self.calibration.is_multi_label else {}
        return {"label": said.label, **labels, "probability": said.probability}


def _names(said: "Prediction | WordReading") -> str:
    return plain_line(", ".join(said.labels) or said.label)


def note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr)
