"""
Runs of `train spam` and `train classify`, opened again: the same split of the same texts, and the model's logits, of
whole texts and after each word.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict

from ...classification.classifier import TextClassifier
from ...data import labelled_texts, sms_spam
from ...pipeline_gpt_scratch import read_in_batches
from ...utils.errors import InputError
from ...utils.files import read_json_object, require_folder
from ...utils.provenance import option
from ...utils.terminal import quieten_transformers

MOST_WORD_LOGITS = 50_000_000  # that are kept, 4 bytes each
COMMANDS = "`hf-gpt-scratch train spam` or `hf-gpt-scratch train classify`"


@dataclass(frozen=True)
class ClassifierRun:
    """
    The output folder of a training, and the split of the texts that it was on.

    Attributes:
        splits: train, validation and test, with columns `text` and `label`.
        names: of the labels, in order.
        is_multi_label: whether a text may have several, so that `label` is a row of 0 and 1.
        outside: the validation and test texts of the labels that were not learned.
        is_spam: whether it is one of the SMS collection's job.
    """

    folder: Path
    protocol: str
    split_seed: int
    splits: DatasetDict
    names: tuple[str, ...] = sms_spam.LABELS
    is_multi_label: bool = False
    outside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_spam: bool = True

    @property
    def is_binary(self) -> bool:
        """Whether label 1 is told from label 0, with one threshold on its probability."""
        return len(self.names) == 2 and not self.is_multi_label

    @property
    def unit(self) -> str:
        return "messages" if self.is_spam else "texts"

    def labels(self, split: str) -> np.ndarray:
        """`(N,)`, or rows of 0 and 1, `(N, K)`."""
        return np.array(self.splits[split]["label"], dtype=int)

    def require_both_labels(self) -> None:
        """Raises `InputError` where of two labels only one is in a part that is to be measured."""
        for split in ("validation", "test") if self.is_binary else ():
            if missing := {0, 1} - {*self.labels(split).tolist()}:
                raise InputError(
                    f"No {split} text of {self.folder} has the label {self.names[min(missing)]!r}, so nothing can be"
                    " measured; train on data that has both labels in each part."
                )

    def load_classifier(self, **placement) -> TextClassifier:
        """The trained model; a run does not keep it, so that many runs do not fill the memory."""
        quieten_transformers()  # it has a progress bar for each model
        return TextClassifier.from_pretrained(self.folder, **placement)


def load_messages(
    folder: str | os.PathLike, data_file: str | None, dataset_name: str | None
) -> sms_spam.Messages | labelled_texts.LabelledTexts:
    """
    The given texts, or else those that the run in `folder` was trained on: the local file that it read, its Hub data
    set, or for the SMS collection the download.

    Raises:
        InputError: when there is no such run, or the texts cannot be read.
    """
    metrics = read_metrics(folder)
    data = metrics["data"]
    if not (data_file or dataset_name):
        data_file, dataset_name = _recorded(folder, metrics)
    if _is_spam(metrics):
        return sms_spam.load_messages(data_file, dataset_name)
    return labelled_texts.load_labelled_texts(
        data_file,
        dataset_name,
        text_column=data["text_column"],
        label_column=data["label_column"],
        multi_label=bool(metrics.get("multi_label")),
        bad_rows="drop",  # as the run did, or there are none
        outside_labels=tuple(metrics.get("outside_labels") or ()),
    )


def _recorded(folder: str | os.PathLike, metrics: dict) -> tuple[str | None, str | None]:
    """The file and the Hub data set that a run was trained on; raises `InputError` where the file is gone."""
    data, typed = metrics["data"], option(metrics.get("command"), "data_file")
    recorded = data.get("file")
    places = [Path(folder) / recorded] if recorded else []
    places += [Path(place) for place in (data.get("source"), typed) if place]  # in older runs; where the run was moved
    data_file = next((str(path) for path in places if path.exists()), None)
    if recorded and not data_file:
        what = "messages" if _is_spam(metrics) else "texts"
        raise InputError(f"The {what} that {folder} was trained on are not at {places[0]} any more; give --data_file.")
    return data_file, None if data_file else data.get("dataset")


def _is_spam(metrics: dict) -> bool:
    return "label_column" not in metrics["data"]


def read_metrics(folder: str | os.PathLike) -> dict:
    """What the training measured; raises `InputError` when another command wrote this folder."""
    require_folder(folder)
    try:
        metrics = read_json_object(Path(folder) / "metrics.json")
        _ = metrics["protocol"], metrics["data"]["sha256"], metrics["split_seed"]  # every run of these jobs has them
    except (InputError, KeyError, TypeError):
        raise InputError(
            f"{folder} has no metrics.json that says how its messages were split; give an output folder of {COMMANDS}."
        ) from None
    return metrics


def open_run(folder: str | os.PathLike, messages: sms_spam.Messages | labelled_texts.LabelledTexts) -> ClassifierRun:
    """
    Opens the output folder of a training, but not yet its model.

    Raises:
        InputError: when it is not one, or was trained on other texts: the test set would hold some of them.
    """
    metrics = read_metrics(folder)
    is_spam = isinstance(messages, sms_spam.Messages)
    if metrics["data"]["sha256"] != messages.sha256 or _is_spam(metrics) != is_spam:
        what = "messages" if is_spam else "texts"
        raise InputError(
            f"{folder} was trained on other {what} than those of {messages.source}; give them with --data_file."
        )
    if not is_spam and list(metrics.get("labels") or ()) != list(messages.names):
        raise InputError(
            f"{folder} was trained on the labels {', '.join(metrics.get('labels') or ['-'])}, not those of the other"
            f" runs, {', '.join(messages.names)}; measure it on its own."
        )
    protocol, split_seed = metrics["protocol"], metrics["split_seed"]
    if is_spam:
        return ClassifierRun(Path(folder), protocol, split_seed, sms_spam.split(messages, protocol, split_seed))
    splits = labelled_texts.split(messages, split_seed)
    known = {name: [_is_known(label) for label in rows["label"]] for name, rows in splits.items()}
    return ClassifierRun(
        Path(folder),
        protocol,
        split_seed,
        DatasetDict({name: rows.select(np.flatnonzero(known[name])) for name, rows in splits.items()}),
        tuple(messages.names),
        messages.is_multi_label,
        {name: _texts_of(splits[name], ~np.array(known[name], dtype=bool)) for name in ("validation", "test")},
        is_spam=False,
    )


def _is_known(label: int | Sequence[float]) -> bool:
    """Whether it is a label that the model has: that of an outside text is -1."""
    return np.min(label, initial=0) >= 0


def _texts_of(rows: Dataset, chosen: np.ndarray) -> list[str]:
    return rows.select(np.flatnonzero(chosen))["text"][:]


def log_odds(classifier: TextClassifier, texts: Sequence[str]) -> np.ndarray:
    """The log-odds of label 1 of two of each text, `(N,)`, before any calibration."""
    logits = classifier.logits(texts).double()
    return (logits[:, 1] - logits[:, 0]).numpy()


def word_logits(classifier: TextClassifier, texts: Sequence[str]) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """
    The logits of the texts, `(N, K)`, and by their rows those after each word of a text, `(words, K)`, before any
    calibration. One forward pass gives them all, as attention only looks back. Of many long texts or labels, those
    after the words are kept of every other text, or every third...
    """
    rows, n_labels = classifier.encode(texts), len(classifier.labels)
    every = 1 + sum(map(len, rows)) * n_labels // MOST_WORD_LOGITS
    whole, words = np.empty((len(rows), n_labels)), {}
    for row, read in read_in_batches(classifier.model, rows):
        whole[row] = read[-1].double().numpy()
        if row % every == 0:
            places = [place for _, place in classifier.word_places(texts[row].strip())]
            words[row] = read[[*places[:-1], len(read) - 1]].float().numpy()
    return whole, {row: words[row] for row in sorted(words)}
