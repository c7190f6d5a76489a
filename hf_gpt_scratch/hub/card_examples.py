"""What a model card shows of the model's own answers: texts that a run kept, with what the model made of them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..classification.calibration import Calibration
from ..prompts import user_message
from ..utils.errors import InputError
from .secrets import secrets_in

SHOWN = 3  # answers in a card
MOST_LABELS = 20  # with an example each
LENGTH = 120  # characters of an example, at most
SAMPLE_LENGTH = 400


def label_examples(folder: Path, labels: Mapping[int, str], stages: Sequence[Calibration]) -> list[dict]:
    """
    For each label the test text of predictions.csv that the model is surest of, among the short ones that it labels
    correctly at every one of the `stages`; fewer where there are none.

    Args:
        stages: the calibration that `pipeline()` applies, first; and another one that the model is used with.

    Returns:
        `label`, `text`, and the `score` of that label as `pipeline()` gives it.
    """
    path, names = folder / "predictions.csv", [labels[number] for number in sorted(labels)]
    if not path.is_file() or len(names) > MOST_LABELS:
        return []
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if _is_shown(row.get("text"))]
    best = {}
    for row in rows:
        logits = _logits(row, names, stages[0].is_multi_label)
        if logits is None:
            return []
        verdicts = [stage.verdict(stage.probabilities(logits), names) for stage in stages]
        label, score = verdicts[0].label, verdicts[0].score
        # The spam job's labels are numbers
        is_right = label in names and row.get("label") in (label, str(names.index(label)))
        is_sure = all(verdict.labels == (label,) for verdict in verdicts)
        if is_right and is_sure and score > best.get(label, {"score": 0})["score"]:
            best[label] = {"label": label, "text": row["text"].strip(), "score": score}
    return [{**best[name], "score": round(best[name]["score"], 3)} for name in names if name in best]


def _logits(row: Mapping, names: Sequence[str], is_multi_label: bool) -> torch.Tensor | None:
    """The logits `(K,)` of which the probabilities of a row were made; `None` where it has none."""
    try:
        if "probability" in row:  # of label 1
            probability = float(row["probability"])
            probabilities = torch.tensor([1 - probability, probability], dtype=torch.float64)
        else:
            probabilities = torch.tensor([float(row[f"probability: {name}"]) for name in names], dtype=torch.float64)
    except (KeyError, TypeError, ValueError):
        return None
    if len(probabilities) != len(names):
        return None
    return probabilities.logit(1e-9) if is_multi_label else probabilities.clamp(min=1e-9).log()


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
