"""What an export costs: a model and the ONNX folder made from it, on the same texts."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.metrics import accuracy_score, f1_score

from ..classification.classifier import TextClassifier
from ..data.labelled_texts import LabelledTexts, load_labelled_texts
from ..model_folder.contents import ModelFolder
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..pretrained import held_class, load_with_tokenizer
from ..utils.constants import ONNX_RECORD
from ..utils.errors import InputError, UsageError
from ..utils.files import read_json_object, write_json
from .precision_cost import perplexity_cost, predictions_difference


def require_kind(source: str | os.PathLike, text: object, data: object) -> None:
    """Raises `UsageError` for a text to measure a classifier on, or labelled data to measure another model on."""
    held = held_class(ModelFolder.resolve(source))
    if text and held != "GPTScratchForCausalLM":
        raise UsageError(f"--perplexity-text is for language models, and {source} holds a {held}.")
    if data and held != "GPTScratchForSequenceClassification":
        raise UsageError(f"--data_file is for sequence classifiers, and {source} holds a {held}.")


def read_text(path: str | os.PathLike) -> str:
    """What a file holds; raises `InputError` when that is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}).") from None


def text_cost(source: str | os.PathLike, exported: str | os.PathLike, text: str) -> dict[str, float]:
    """
    What `perplexity_cost` returns of a language model, on a text in windows as long as the model reads; also written
    to the record of the ONNX folder `exported`.

    Raises:
        InputError: when the text is too short.
    """
    model, tokenizer = load_with_tokenizer(GPTScratchForCausalLM, source, device="cpu")
    changed, _ = load_with_tokenizer(GPTScratchForCausalLM, exported, device="cpu")
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.long)
    rows = [window[None] for window in ids.split(model.config.n_positions) if len(window) > 1]
    if not rows:
        raise InputError("The text is too short to measure a perplexity on: it has fewer than two tokens.")
    found = perplexity_cost(model, changed, rows)
    _record(exported, {"text_sha256": hashlib.sha256(text.encode()).hexdigest(), **found})
    return found


def read_labelled(
    classifier: str | os.PathLike, path: str | os.PathLike, text_column: str | None, label_column: str | None
) -> LabelledTexts:
    """The texts of a table and their labels, without bad rows; raises `InputError` as `load_labelled_texts`."""
    config = TextClassifier.from_pretrained(classifier, device="cpu").model.config
    several = config.problem_type == "multi_label_classification"
    data = load_labelled_texts(path, None, text_column, label_column, multi_label=several, bad_rows="drop")
    if unknown := sorted(set(data.names) - set(config.id2label.values())):
        raise InputError(f"{path} has the labels {', '.join(unknown[:5])}, which {classifier} does not know.")
    return data


def labels_cost(source: str | os.PathLike, exported: str | os.PathLike, data: LabelledTexts) -> dict[str, float]:
    """
    Of a sequence classifier what `predictions_difference` returns, and its `accuracy` and `f1` (of label 1 of two;
    micro-averaged with several labels a text, else macro-averaged) `before` and `after`; also written to the record of
    the ONNX folder `exported`.
    """
    classifiers = [TextClassifier.from_pretrained(folder, device="cpu") for folder in (source, exported)]
    before, after = (list(classifier.classify(data.texts)) for classifier in classifiers)
    changed = sum((one.label, one.labels) != (other.label, other.labels) for one, other in zip(before, after))
    found = {"texts": len(data.texts), "labels_changed": changed, **predictions_difference(before, after)}
    for name, predictions in (("before", before), ("after", after)):
        accuracy, f1 = _scores(data, classifiers[0].labels, [one.labels for one in predictions])
        found |= {f"accuracy_{name}": accuracy, f"f1_{name}": f1}
    _record(exported, {"data_sha256": data.sha256, **found})
    return found


def _scores(data: LabelledTexts, names: Sequence[str], said: Sequence[Sequence[str]]) -> tuple[float, float]:
    """The accuracy and the F1 of labels that are said, none where a text is outside."""
    number = {name: i for i, name in enumerate(names)}
    of_data = [number[name] for name in data.names]
    if data.is_multi_label:
        true = [[of_data[label] for label in labels] for labels in data.labels]
        found = [[number[name] for name in labels] for labels in said]
        true, found = (_rows(labels, len(names)) for labels in (true, found))
        return float(accuracy_score(true, found)), float(f1_score(true, found, average="micro", zero_division=0))
    true = [of_data[label] for label in data.labels]
    found = [number[labels[0]] if labels else -1 for labels in said]
    wanted = {"pos_label": 1} if len(names) == 2 and -1 not in found else {"average": "macro"}
    labels = None if "pos_label" in wanted else range(len(names))
    return float(accuracy_score(true, found)), float(f1_score(true, found, labels=labels, zero_division=0, **wanted))


def _rows(labels: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    return [[int(number in one) for number in range(count)] for one in labels]


def _record(exported: str | os.PathLike, cost: dict) -> None:
    path = Path(exported, ONNX_RECORD)
    write_json(path, {**read_json_object(path), "cost": cost})
