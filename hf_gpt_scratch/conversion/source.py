"""Where a model to convert comes from: a local folder or a Hub repository, its config and its tokenizer."""

import json
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download

from ..errors import InputError
from ..tokenizer import load_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def resolve_source(src: str) -> Path:
    """
    The local folder `src`, or the weights, configuration and tokenizer of the Hub repository `src`, downloaded.

    Raises:
        InputError: when there is neither.
    """
    if Path(src).is_dir():
        return Path(src)
    if Path(src).exists() or src.startswith((".", "/")) or src.count("/") > 1:
        raise InputError(f"{src} is not a folder.")
    try:
        if constants.HF_HUB_OFFLINE:  # what was downloaded before
            return Path(snapshot_download(src, local_files_only=True))
        names = HfApi().list_repo_files(src)
        weights = "*.safetensors*" if any(name.endswith(".safetensors") for name in names) else "pytorch_model*"
        patterns = ["*.json", "*.txt", weights]
        # Only the top folder: repositories keep conversions for other frameworks in sub-folders.
        return Path(snapshot_download(src, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:  # of the Hub, of its HTTP client, of the disk
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{src} is neither a folder nor a Hub repository that can be read ({reason}).") from None


def read_config(folder: Path, model_type: str | None = None) -> dict:
    """The settings in a folder's `config.json`; raises `InputError` when they are not a `model_type`'s, if given."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not folder.exists():
            raise InputError(f"There is no model folder {str(folder)!r}.") from None
        raise InputError(f"{folder} is not a model folder: it has no config.json.") from None
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'} is not valid JSON ({error}).") from None
    if not isinstance(settings, dict):
        raise InputError(f"{folder / 'config.json'} holds no settings.")
    if model_type is not None and settings.get("model_type") != model_type:
        raise InputError(f"{folder} holds a model of type {settings.get('model_type')!r}; expected {model_type!r}.")
    return settings


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer, where the source folder has one, in the form the Auto classes load."""
    if any((source / name).is_file() for name in TOKENIZER_FILES):
        load_tokenizer(source).save_pretrained(target)
