"""Data sets from their public sources, checked."""

from pathlib import Path

from datasets import Dataset, DatasetDict, DownloadManager, load_dataset

from ..utils.errors import InputError, one_line
from ..utils.provenance import sha256


def download(url: str, expected_sha256: str | None = None, advice: str = "give a local copy with --data_file") -> Path:
    """
    The file at `url`, kept in the cache of datasets.

    Raises:
        InputError: when it cannot be downloaded, or is not the expected file.
    """
    try:
        path = Path(DownloadManager().download(url))
    except Exception as error:  # besides OSError, those of aiohttp
        reason = error.__cause__ or error.__context__ or error
        raise InputError(f"{url} could not be downloaded (no network? {one_line(reason)}); {advice}.") from None
    if expected_sha256 and sha256(path) != expected_sha256:
        raise InputError(f"The file at {url} does not have the expected SHA-256; {advice}.")
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
        raise InputError(
            f"The data set {name} could not be loaded (no network? {one_line(error)}); check its name, or give a local"
            " copy with --data_file."
        ) from None
