"""A model put into a folder: whole, or not at all."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError
from ..utils.files import sync, sync_entries
from ..utils.result_card import FOLDER, read_card
from .code import package_code
from .contents import ADAPTER_CONFIG, CODE_FILES, OF_THE_MODEL, RECORDS


def replace_model(source: Path, folder: Path) -> list[str]:
    """
    Moves the files of a complete model or adapter from `source` into `folder`, on the same disk.

    An older model in `folder` goes first: its files (`OF_THE_MODEL`), and with them all that was measured of it, as
    its numbers do not hold for the new weights (`measurements`). Every other file stays. A
    folder counts as a model's from its config.json or adapter_config.json on: the old one is deleted before anything
    else and the new one comes last, each on the disk before the next step, so that a reader never finds the parts of
    two models.

    Returns:
        The names of the measurements that were deleted, after a note of them on stderr.
    """
    configs = ("config.json", ADAPTER_CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    sync(source)
    for name in configs:
        (folder / name).unlink(missing_ok=True)
    sync_entries(folder)
    measured = measurements(folder)
    for path in [*_matching(folder, OF_THE_MODEL), *measured]:
        path.unlink()
    for path in sorted(source.iterdir(), key=lambda path: path.name in configs):
        if path.name in configs:
            sync_entries(folder)
        os.replace(path, folder / path.name)
    sync_entries(folder)
    source.rmdir()
    names = [path.relative_to(folder).as_posix() for path in measured]
    if names:
        deleted = ", ".join(names)
        print(f"note: {folder} held an older model; what was measured of it is deleted: {deleted}.", file=sys.stderr)
    return names


def measurements(folder: Path) -> list[Path]:
    """What was measured of the model in `folder`, which `replace_model` deletes: `RECORDS` and the result cards."""
    return sorted({*_matching(folder, RECORDS), *filter(_is_result_card, folder.glob(f"{FOLDER}/*.json"))})


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern)]


def _is_result_card(path: Path) -> bool:
    try:
        return bool(read_card(path))
    except InputError:
        return False


def save_config_and_code(config: GPTScratchConfig, architecture: str, folder: Path) -> None:
    """Writes what `save_pretrained` writes beside the weights, without a model in memory."""
    config.architectures = [architecture]
    config.save_pretrained(folder)  # config.json and the configuration's code
    for name in CODE_FILES:
        shutil.copy(package_code(name), folder)
