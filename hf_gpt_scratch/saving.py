"""Folders and files that are complete or absent: written under a temporary name, then renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import modeling_gpt_scratch
from .configuration_gpt_scratch import GPTScratchConfig
from .errors import InputError

ADAPTER_CONFIG = "adapter_config.json"
# What makes up a model or an adapter, in names that only its files have: none of it holds for another one.
OF_THE_MODEL = (
    "config.json",
    "generation_config.json",
    ADAPTER_CONFIG,
    "model.safetensors",
    "model-[0-9]*-of-[0-9]*.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "configuration_gpt_scratch.py",
    "modeling_gpt_scratch.py",
    "chat_template.jinja",
    "reference_logits.json",
    *(f"plots/{name}.png" for name in ("training", "confusion_matrix", "precision_recall", "calibration")),
)
# What was found out about it, besides the result cards; none of it is ever pushed
RECORDS = ("metrics.json", "conversion.json")


@contextmanager
def atomic_folder(out: str | os.PathLike) -> Iterator[Path]:
    """
    Yields an empty folder to write in, which takes the name `out` when the block ends, and is removed if it raises.

    Raises:
        InputError: when `out` is there already and is not an empty folder.
    """
    out = Path(out).absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} already exists; choose another name or delete it first.")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish_model(source: Path, folder: Path) -> None:
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
    from .evaluation.card import read_card  # which saves by this module

    try:
        return bool(read_card(path))
    except InputError:
        return False


def write_json(path: str | os.PathLike, value) -> None:
    """Writes `value` as JSON for people to read, whole or not at all."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, whole or not at all."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_config_and_code(config: GPTScratchConfig, architecture: str, folder: Path) -> None:
    """Writes what `save_pretrained` writes beside the weights, without a model in memory."""
    config.architectures = [architecture]
    config.save_pretrained(folder)  # config.json and the configuration's code
    shutil.copy(modeling_gpt_scratch.__file__, folder)
