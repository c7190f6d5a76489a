"""A model put into a folder: whole, or not at all."""

import os
import shutil
from pathlib import Path

from .. import modeling_gpt_scratch
from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError
from .contents import ADAPTER_CONFIG, OF_THE_MODEL, RECORDS


def replace_model(source: Path, folder: Path) -> None:
    """
    Moves the files of a complete model or adapter from `source` into `folder`, on the same disk, whose other files
    stay.

    A folder counts as one from its config.json or adapter_config.json on: an older one goes first and the new one
    comes last, so that a reader never finds the parts of two models; what was measured of the older one goes with it.
    """
    configs = ("config.json", ADAPTER_CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    for name in configs:
        (folder / name).unlink(missing_ok=True)
    stale = [path for pattern in (*OF_THE_MODEL, *RECORDS) for path in folder.glob(pattern)]
    for path in [*stale, *filter(_is_result_card, folder.glob("results/*.json"))]:
        path.unlink()
    for path in sorted(source.iterdir(), key=lambda path: path.name in configs):
        os.replace(path, folder / path.name)
    source.rmdir()


def _is_result_card(path: Path) -> bool:
    from ..utils.result_card import read_card

    try:
        return bool(read_card(path))
    except InputError:
        return False


def save_config_and_code(config: GPTScratchConfig, architecture: str, folder: Path) -> None:
    """Writes what `save_pretrained` writes beside the weights, without a model in memory."""
    config.architectures = [architecture]
    config.save_pretrained(folder)  # config.json and the configuration's code
    shutil.copy(modeling_gpt_scratch.__file__, folder)
