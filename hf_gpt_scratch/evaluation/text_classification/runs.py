"""Runs of the spam job, opened again: the same split of the same messages, and the model's log-odds."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from ...classification.classifier import TextClassifier
from ...data import sms_spam
from ...utils.errors import InputError
from ...utils.files import read_json_object, require_folder
from ...utils.provenance import option
from ...utils.terminal import quieten_transformers


@dataclass(frozen=True)
class SpamRun:
    """The output folder of a training, and the split of the messages that it was on."""

    folder: Path
    protocol: str
    split_seed: int
    splits: DatasetDict

    def load_classifier(self, **placement) -> TextClassifier:
        """The trained model; a run does not keep it, so that many runs do not fill the memory."""
        quieten_transformers()  # it has a progress bar for each model
        return TextClassifier.from_pretrained(self.folder, **placement)


def load_messages(folder: str | os.PathLike, data_file: str | None, dataset_name: str | None) -> sms_spam.Messages:
    """
    The given messages, or else those that the run in `folder` was trained on: the local file that it read, its Hub
    data set, or the download.

    Raises:
        InputError: when there is no such run, or the messages cannot be read.
    """
    if not (data_file or dataset_name):
        metrics = read_metrics(folder)
        data, typed = metrics["data"], option(metrics.get("command"), "data_file")
        places = [Path(folder) / (data.get("file") or ""), Path(data.get("source") or "")]  # the latter in older runs
        places += [Path(typed)] if typed else []  # where the run was moved, but not its data
        data_file = next((path for path in places if path.is_file()), None)
        dataset_name = None if data_file else data.get("dataset")
        if data.get("file") and not data_file:
            raise InputError(
                f"The messages that {folder} was trained on are not at {places[0]} any more; give --data_file."
            )
    return sms_spam.load_messages(data_file, dataset_name)


def read_metrics(folder: str | os.PathLike) -> dict:
    """What the spam job measured; raises `InputError` when another command wrote this folder."""
    require_folder(folder)
    try:
        metrics = read_json_object(Path(folder) / "metrics.json")
        _ = metrics["protocol"], metrics["data"]["sha256"], metrics["split_seed"]  # every run of that job has these
    except (InputError, KeyError, TypeError):
        raise InputError(
            f"{folder} has no metrics.json that says how its messages were split; give an output folder of"
            " `hf-gpt-scratch train spam`."
        ) from None
    return metrics


def open_run(folder: str | os.PathLike, messages: sms_spam.Messages) -> SpamRun:
    """
    Opens the output folder of the spam job, but not yet its model.

    Raises:
        InputError: when it is not one, or was trained on other messages: the test set would hold some of them.
    """
    metrics = read_metrics(folder)
    if metrics["data"]["sha256"] != messages.sha256:
        raise InputError(
            f"{folder} was trained on other messages than those of {messages.source}; give them with --data_file."
        )
    protocol, split_seed = metrics["protocol"], metrics["split_seed"]
    return SpamRun(Path(folder), protocol, split_seed, sms_spam.split(messages, protocol, split_seed))


def log_odds(classifier: TextClassifier, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """The log-odds of spam of each text, `(N,)`, before any calibration."""
    logits = classifier.logits(texts, batch_size).double()
    return (logits[:, 1] - logits[:, 0]).numpy()
