"""A checkpoint to convert: where it comes from, what it is, and which of its tensors are which of ours."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedTokenizerBase

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError, UsageError
from .independent_forward import Arithmetic
from .key_map import KeyMapping


class MissingOption(UsageError):
    """An option that a format needs and cannot guess; a calibration text may tell its value (see `evidence`)."""

    def __init__(self, name: str, message: str):
        super().__init__(message)
        self.name = name


class Tensors(Protocol):
    """A checkpoint's tensors, read one at a time."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype | None]  # None for a type that no weight has

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
        key_map: which of its tensors are which of ours.
        tensors: them, by the names in `key_map`.
        arithmetic: how the format itself computes with them, to prove the conversion by.
        files: the files that hold them.
        zeros: those of our tensors that the format omits, because it adds nothing there.
        originals: its tensors before any were merged, for the proof, where those are not the same.
        settings: the folder whose config.json and generation_config.json are those of transformers, if there is one.
        folder: where a tokenizer may be found beside them.
        assumed: the settings that the files do not hold, by name: given by the user, or a default. The proof computes
            with them too, so that it cannot tell a wrong one.
        tokenizer: makes the tokenizer that is in the files themselves, or is kept in a form of the format's own.
        notes: sentences on what the user should know of the result.
        stock: the folder, where transformers has a class of its own that loads it: the proof then asks that class.
    """

    format: str
    config: GPTScratchConfig
    architecture: str
    key_map: list[KeyMapping]
    tensors: Tensors
    arithmetic: Arithmetic
    files: list[Path]
    zeros: frozenset[str] = field(default_factory=frozenset)
    settings: Path | None = None
    folder: Path | None = None
    originals: Tensors | None = None
    assumed: dict[str, int | float | str] = field(default_factory=dict)
    tokenizer: Callable[[], PreTrainedTokenizerBase] | None = None
    notes: tuple[str, ...] = ()
    stock: Path | None = None


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
    """The configuration of a model found in `path`; GPT-2's EOS token where the vocabulary has it."""
    try:
        for name in ("vocab_size", "n_positions", "n_embd"):
            if settings[name] > 2**31:
                raise ValueError(f"{name} is {settings[name]}")
        eos = 50256 if settings["vocab_size"] > 50256 else None
        return GPTScratchConfig(**settings, bos_token_id=eos, eos_token_id=eos)
    except ValueError as error:
        raise InputError(f"{path} does not describe a GPT: {error}") from None


def check_depth(path: Path, n_layer: int, tensors: Tensors) -> None:
    """Raises `InputError` for more blocks than there are tensors, before a table of their names fills the memory."""
    if n_layer > len(tensors.shapes):
        raise InputError(f"{path} claims to have {n_layer} blocks, but holds only {len(tensors.shapes)} tensors.")
