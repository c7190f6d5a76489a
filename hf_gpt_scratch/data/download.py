"""Data sets from their public sources, checked."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import constants

from ..utils.download import fetch
from ..utils.errors import InputError, one_line, raise_if_starved

ADVICE = "check the network, or give a local copy with --data_file"


def download(url: str, expected_sha256: str | None = None, check: Callable[[Path], None] | None = None) -> Path:
    """
    The file at `url`, which is kept in the cache of the Hub's libraries (HF_HOME).

    Args:
        check: raises `InputError` where a file is not the right one; then it is downloaded anew.

    Raises:
        InputError: when it cannot be downloaded, or is not the expected file.
    """
    folder = Path(constants.HF_HOME, "hf_gpt_scratch", "downloads", hashlib.sha256(url.encode()).hexdigest()[:16])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / url.rpartition("/")[2]
    fetch(url, path, expected_sha256, check, ADVICE)
    return path


def rows_from_hub(name: str) -> Dataset:
    """
    The training split of a Hub data set.

    Raises:
        InputError: when it cannot be loaded.
    """
    return _load(name, split="train")


def splits_from_hub(name: str) -> DatasetDict:
    """All splits of a Hub data set; raises `InputError` when it cannot be loaded."""
    return _load(name)


def _load(name: str, **which) -> Dataset | DatasetDict:
    try:
        return load_dataset(name, **which)
    except Exception as error:  # datasets raises a dozen types, for the name, the network or the format
        raise_if_starved(error, datasets.config.HF_DATASETS_CACHE)
        raise InputError(
            f"The data set {name} could not be loaded (no network? {one_line(error)}); check its name, or give a local"
            " copy with --data_file."
        ) from None
