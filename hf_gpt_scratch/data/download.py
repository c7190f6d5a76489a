"""Data sets from their public sources, checked."""

from pathlib import Path

from datasets import Dataset, DownloadManager, load_dataset

from ..utils.errors import InputError, one_line
from ..utils.provenance import sha256


def download(url: str, expected_sha256: str | None = None, advice: str = "give a local copy by --data_file") -> Path:
    """
    The file at `url`, kept in the cache of datasets.

    Raises:
        InputError: when it cannot be had, or is not the one that it was.
    """
    try:
        path = Path(DownloadManager().download(url))
    except Exception as error:  # beside OSError, those of aiohttp
        reason = error.__cause__ or error.__context__ or error
        raise InputError(f"{url} could not be downloaded ({one_line(reason)}); {advice}.") from None
    if expected_sha256 and sha256(path) != expected_sha256:
        raise InputError(f"What {url} sent does not have the expected SHA-256; {advice}.")
    return path


def rows_from_hub(name: str) -> Dataset:
    """
    The training split of a Hub data set.

    Raises:
        InputError: when it cannot be loaded.
    """
    try:
        return load_dataset(name, split="train")
    except Exception as error:  # datasets raises a dozen types for a name, a network or a format that is not good
        raise InputError(f"The data set {name} could not be loaded ({one_line(error)}).") from None
