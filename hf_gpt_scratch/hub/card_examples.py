"""What a model card shows of the model's own answers: texts that a run kept, with what the model made of them."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path

from ..classification.calibration import Calibration
from ..prompts import user_message
from ..utils.errors import InputError
from .secrets import secrets_in

SHOWN = 3  # answers in a card
LENGTH = 120  # characters of an example, at most
SAMPLE_LENGTH = 400


def label_examples(folder: Path, labels: Mapping[int, str], calibration: Calibration) -> list[dict]:
    """
    For each of two labels the test text of predictions.csv that the model is surest of, among the short ones that it
    labels correctly, both calibrated and as `pipeline()` does; fewer where there are none.

    Returns:
        `label`, `text`, and the `score` of that label as `pipeline()` gives it.
    """
    path = folder / "predictions.csv"
    if not path.is_file() or set(labels) != {0, 1}:
        return []
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if _is_shown(row.get("text"))]
    examples = []
    for number, label in sorted(labels.items()):
        candidates = []
        for row in rows:
            try:
                probability = float(row["probability"])
            except (KeyError, TypeError, ValueError):
                return []
            bounds = [0.5, _bound(calibration)]
            is_right = all((probability > bound) == bool(number) for bound in bounds)
            if row.get("label") in (str(number), label) and is_right:
                candidates.append((probability if number else 1 - probability, row["text"].strip()))
        if candidates:
            score, text = max(candidates, key=lambda one: one[0])
            examples.append({"label": label, "text": text, "score": round(score, 3)})
    return examples


def _bound(calibration: Calibration) -> float:
    """The probability before calibration that becomes its threshold."""
    threshold = min(max(calibration.threshold, 1e-9), 1 - 1e-9)
    log_odds = math.log(threshold / (1 - threshold))
    return 1 / (1 + math.exp(-(log_odds - calibration.shift) * calibration.temperature))


def sample(folder: Path, prompt: str | None) -> dict | None:
    """The last text that the model wrote while it was trained: `prompt`, and what it `wrote` after it."""
    path = folder / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines:
        return None
    try:
        text = json.loads(lines[-1])["text"]
        known = prompt if prompt and text.startswith(prompt) else ""
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; delete it, or train again.") from None
    wrote = _cut(text[len(known) :], SAMPLE_LENGTH)
    return {"prompt": known, "wrote": wrote} if wrote and _is_safe(text) else None


def answers(folder: Path) -> list[dict]:
    """The rows of responses.json, held-out instructions with the model's answers; none where there is no such file."""
    path = folder / "responses.json"
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [
            {
                "question": user_message(row["instruction"], row.get("input") or ""),
                "shown": _cut(f"{row['instruction']} {row.get('input') or ''}", SAMPLE_LENGTH),
                "answer": _cut(row["model_response"], SAMPLE_LENGTH),
                "reference": _cut(row["output"], SAMPLE_LENGTH),
                "is_whole": row.get("finish_reason") == "stop",
                "has_input": bool(row.get("input")),
            }
            for row in rows
            if _is_safe(json.dumps(row, ensure_ascii=False)) and not row.get("history")
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; delete it, or train again.") from None


def example_answer(rows: list[dict]) -> dict | None:
    """The answer to show beside the code: complete and short, where there is one like its reference, with no input."""
    short = [row for row in rows if row["is_whole"] and row["answer"] and max(map(len, _texts(row))) <= LENGTH]
    return min(short, key=lambda row: (row["has_input"], row["answer"] != row["reference"]), default=None)


def _texts(row: Mapping) -> tuple[str, str]:
    return row["question"], row["answer"]


def _is_shown(text: str | None) -> bool:
    return bool(text and text.strip()) and len(text) <= LENGTH and "\n" not in text.strip() and _is_safe(text)


def _is_safe(text: str) -> bool:
    """Whether a card with this text would pass the check for secrets and paths."""
    return not secrets_in("README.md", text.encode())


def _cut(text: str, length: int) -> str:
    """The text on one line, of so many characters at most."""
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[:length].rsplit(' ', 1)[0]} …"
