"""
Examples to click on that are true for the model that is shown: messages that it labels correctly, questions that it
has answered correctly. They come from `examples.json` in the model's folder, which a Space has, or from what the
training recorded beside the model; a spam classifier without either is tried on the messages below.
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..classification.classifier import TextClassifier
from ..evaluation.responses import HISTORY, QUESTION, REFERENCE, RESPONSE, read_responses
from ..utils.errors import InputError
from ..utils.files import read_json, write_json
from ..utils.text import has_lone_surrogates

FILE = "examples.json"
PER_LABEL, QUESTIONS = 2, 3  # how many are shown
LABELS = 6  # of how many labels
TRIED = 24  # messages of each label
SHORTEST, LONGEST = 20, 120  # characters, so that they fit a phone
MESSAGES = {
    "ham": (
        "Are we still meeting at the station at six?",
        "Thanks for the photos, the children loved them.",
        "Can you bring some milk and bread on your way home?",
        "I will be ten minutes late, please start without me.",
        "Happy birthday! See you at dinner on Saturday.",
        "Mum says the train was late again, call her tonight.",
    ),
    "spam": (
        "You have won a prize of 1000 in cash! Call now to claim it.",
        "FREE entry in our weekly draw, text WIN to 80082 to claim your prize!",
        "URGENT! Your mobile number has won a free holiday. Claim now on 09061701461.",
        "Congratulations, you have been selected for a free phone. Reply YES to claim.",
        "Get cheap loans today, no credit check. Call now, offer ends tonight!",
        "WINNER!! Claim your prize now",
    ),
}


def messages(classifier: TextClassifier, folder: str | os.PathLike) -> list[tuple[str, str]]:
    """
    Messages whose label the classifier gets right, and their labels, the last label first and in turn: of two labels
    up to `PER_LABEL` each, of more one each, of `LABELS` labels at most.

    Args:
        folder: of the classifier, with what was recorded beside it.
    """
    names = classifier.model.config.id2label
    labels = [names[number] for number in sorted(names, reverse=True)][-LABELS:]
    recorded = _saved(folder, ("text", "label")) or _predictions(Path(folder) / "predictions.csv", names)
    known = {name: [] for name in labels}
    for row in recorded or [{"text": text, "label": label} for label, texts in MESSAGES.items() for text in texts]:
        if row["label"] in known and _fits(row["text"]):
            known[row["label"]].append(row["text"])
    chosen = [_right(classifier, texts[:TRIED], label) for label, texts in known.items()]
    rounds = range(PER_LABEL if len(labels) == 2 else 1)
    return [(texts[i], label) for i in rounds for label, texts in zip(known, chosen) if i < len(texts)]


def _right(classifier: TextClassifier, texts: Sequence[str], label: str) -> list[str]:
    """Those of the texts that get the label, the surest first, no two that begin alike."""
    right = [one for one in classifier.classify(texts) if one.label == label]
    right.sort(key=_sureness(classifier))
    return _begin_differently((one.text for one in right), lambda text: text)


def _sureness(classifier: TextClassifier):
    """A key that sorts predictions, the surest first."""
    if len(classifier.labels) == 2 and not classifier.calibration.is_multi_label:
        return lambda one: -abs(one.probability - classifier.calibration.threshold)
    return lambda one: -one.probability


def questions(folder: str | os.PathLike) -> list[tuple[str, str]]:
    """
    Up to `QUESTIONS` pairs of an instruction and its input ("" where it has none) that the model in `folder` answered
    as the reference does, except for case and punctuation, or with at least 90 of 100 points from a judge.
    """
    if saved := _saved(folder, QUESTION):
        return [(row["instruction"], row["input"]) for row in saved][:QUESTIONS]
    rows = _responses(folder)
    judged = _scores(Path(folder) / "judge.json")
    right = [
        (row["instruction"], row["input"])
        for row in rows
        if _fits(row["instruction"] + row["input"], shortest=1)
        and (_plain(row[RESPONSE]) == _plain(row[REFERENCE]) or judged.get(_question(row), 0) >= 90)
    ]
    return _begin_differently(right, lambda pair: pair[0])[:QUESTIONS]


def takes_input(folder: str | os.PathLike) -> bool | None:
    """Whether the instructions that the model in `folder` was tested on have inputs; `None` where that is unknown."""
    rows = _responses(folder) or _saved(folder, QUESTION)
    return any(row["input"].strip() for row in rows) if rows else None


def write(path: str | os.PathLike, examples: Sequence[tuple[str, str]], names: tuple[str, str]) -> None:
    """Records examples of `messages` (whose `names` are text, label) or `questions` (instruction, input)."""
    write_json(path, [dict(zip(names, pair)) for pair in examples])


def _saved(folder: str | os.PathLike, names: Iterable[str]) -> list[dict[str, str]]:
    """The rows of `FILE` in the folder; none where there is no such file, or it holds something else."""
    return _rows(Path(folder) / FILE, names)


def _rows(path: Path, names: Iterable[str]) -> list[dict[str, str]]:
    try:
        rows = read_json(path) if path.is_file() else []
    except InputError:
        return []
    rows = rows if isinstance(rows, list) else []
    return [row for row in rows if isinstance(row, dict) and all(isinstance(row.get(name), str) for name in names)]


def _predictions(path: Path, names: Mapping[int, str]) -> list[dict[str, str]]:
    """The messages of a run's test set and the names of their labels; none where they were not recorded."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [(row.get("text"), row.get("label")) for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return []
    numbers = {str(number): name for number, name in names.items()}
    return [{"text": text, "label": numbers.get(label, label)} for text, label in rows if text and label]


def _responses(folder: str | os.PathLike) -> list[dict[str, str]]:
    try:  # what only follows others in a conversation is no example
        return [row for row in read_responses(Path(folder) / "responses.json") if not row.get(HISTORY)]
    except (InputError, OSError):
        return []


def _scores(path: Path) -> dict[tuple, float]:
    """What a judge gave for each answer, by the question and the answer; nothing where no judge was asked."""
    try:
        items = read_json(path)["items"] if path.is_file() else []
        return {_question(item): item["score"] for item in items if isinstance(item["score"], int | float)}
    except (InputError, LookupError, TypeError):
        return {}


def _question(row: Mapping) -> tuple:
    return tuple(row[name] for name in (*QUESTION, RESPONSE))


def _fits(text: str, shortest: int = SHORTEST) -> bool:
    return shortest <= len(text.strip()) <= LONGEST and not has_lone_surrogates(text)


def _plain(text: str) -> str:
    """A text without case, punctuation and extra spaces."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _begin_differently(items: Iterable, text) -> list:
    """The items in order, those that begin with the same two words as an earlier one last."""
    first, later, seen = [], [], set()
    for item in items:
        beginning = tuple(text(item).casefold().split()[:2])
        (later if beginning in seen else first).append(item)
        seen.add(beginning)
    return first + later
