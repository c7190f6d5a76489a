"""A checkpoint to convert: where it comes from, what it is, and which of its tensors are which of ours."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from huggingface_hub import HfApi, constants, snapshot_download

from ..configuration_gpt_scratch import GPTScratchConfig
from ..errors import InputError
from ..tokenizer import is_missing_folder
from .reference import Arithmetic
from .rules import Rule


class Tensors(Protocol):
    """A checkpoint's tensors, read one at a time."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype | None]  # None for what no weight is

    def __getitem__(self, name: str) -> torch.Tensor: ...


class Renamed:
    """Tensors under other names, those of a format's table."""

    def __init__(self, tensors: Tensors, key_of: dict[str, str]):
        self.shapes = {name: tensors.shapes[key] for name, key in key_of.items()}
        self.dtypes = {name: tensors.dtypes[key] for name, key in key_of.items()}
        self._tensors, self._key_of = tensors, key_of

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[self._key_of[name]]


@dataclass(frozen=True)
class Source:
    """
    A checkpoint of some format, opened.

    Args:
        format: the format's name in words.
        config: the configuration of the model that it becomes.
        architecture: the class that it becomes, one of ours.
        rules: which of its tensors are which of ours.
        tensors: them, by the names in `rules`.
        arithmetic: how the format itself computes with them, to prove the conversion by.
        files: the files that hold them.
        zeros: those of our tensors that the format does without, because it adds nothing there.
        originals: its tensors before any were merged, for the proof, where that is not the same.
        folder: where a tokenizer and a generation config may lie beside them.
    """

    format: str
    config: GPTScratchConfig
    architecture: str
    rules: list[Rule]
    tensors: Tensors
    arithmetic: Arithmetic
    files: list[Path]
    zeros: frozenset[str] = field(default_factory=frozenset)
    folder: Path | None = None
    originals: Tensors | None = None


def key_of_names(keys, normalize) -> dict[str, str]:
    """
    The keys by the names that `normalize` gives them; it returns `None` for one that holds no weight.

    Raises:
        InputError: when two keys are the same weight.
    """
    key_of = {}
    for key in keys:
        name = normalize(key)
        if name in key_of:
            raise InputError(f"{key_of[name]} and {key} are the same weight; the checkpoint is damaged.")
        if name is not None:
            key_of[name] = key
    return key_of


def strip_wrappers(key: str) -> str:
    """A key without the prefixes that compiled and distributed training leave."""
    while key.startswith(("_orig_mod.", "module.")):
        key = key.partition(".")[2]
    return key


def weight_name(key: str, mask: re.Pattern) -> str | None:
    """A key without its wrappers, or `None` for a causal mask, which some models save among their weights."""
    name = strip_wrappers(key)
    return None if mask.fullmatch(name) else name


def make_config(path: Path, **settings) -> GPTScratchConfig:
    """The configuration of a model found in `path`; GPT-2's end token where the vocabulary has it."""
    try:
        for name in ("vocab_size", "n_positions", "n_embd"):
            if settings[name] > 2**31:
                raise ValueError(f"{name} is {settings[name]}")
        end = 50256 if settings["vocab_size"] > 50256 else None
        return GPTScratchConfig(**settings, bos_token_id=end, eos_token_id=end)
    except ValueError as error:
        raise InputError(f"{path} cannot be of a GPT: {error}") from None


def check_depth(path: Path, n_layer: int, tensors: Tensors) -> None:
    """Raises `InputError` for more blocks than there are tensors, before a table of their names fills the memory."""
    if n_layer > len(tensors.shapes):
        raise InputError(f"{path} promises {n_layer} blocks, but holds {len(tensors.shapes)} tensors.")


def resolve_source(src: str) -> Path:
    """
    The local file or folder `src`; or the Hub repository `src`, its weights, configuration and tokenizer downloaded.

    Raises:
        InputError: when there is neither.
    """
    if Path(src).exists():
        return Path(src)
    if is_missing_folder(src):
        raise InputError(f"There is no file or folder {src}.")
    try:
        if constants.HF_HUB_OFFLINE:  # what was downloaded before
            return Path(snapshot_download(src, local_files_only=True))
        names = HfApi().list_repo_files(src)
        weights = "*.safetensors*" if any(name.endswith(".safetensors") for name in names) else "pytorch_model*"
        patterns = ["*.json", "*.txt", "*.py", weights]  # the code is not run here, but an adapter is loaded by it
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
    except NotADirectoryError:
        raise InputError(f"{folder} is a file; expected a model folder.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder / 'config.json'} is not valid JSON ({error}).") from None
    if not isinstance(settings, dict):
        raise InputError(f"{folder / 'config.json'} holds no settings.")
    architectures = settings.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
    ):
        raise InputError(f"The architectures in {folder / 'config.json'} must be a list of names.")
    if model_type is not None and settings.get("model_type") != model_type:
        advice = (
            ": make it one of this package's first, by `hf-gpt-scratch convert`" if model_type == "gpt_scratch" else ""
        )
        raise InputError(
            f"{folder} holds a model of type {settings.get('model_type')!r}; expected {model_type!r}{advice}."
        )
    return settings
