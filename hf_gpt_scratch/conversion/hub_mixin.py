"""
Repositories of `PyTorchModelHubMixin`: a `config.json` of the arguments of the model's constructor, and its weights.

Source: huggingface_hub's `hub_mixin.py`. It saves with safetensors' `save_model`, which keeps a tied matrix by one of
its names. The weights have the book's names or GPT-2's; the arguments hold the number of heads.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..model_folder.contents import has_tokenizer, read_config
from ..utils.errors import InputError, UsageError
from . import gpt2_state_dict, llms_from_scratch
from .checkpoint import Checkpoint
from .choices import FORMATS
from .foreign_models import refuse_foreign
from .source import Source

MODULES: dict[str, ModuleType] = {"llms-from-scratch": llms_from_scratch, "gpt2-state-dict": gpt2_state_dict}
# What the constructors call the settings that a state dict does not hold
NAMES = {
    "n_head": ("n_head", "n_heads", "num_heads", "num_attention_heads"),
    "window": ("sliding_window_size", "sliding_window"),
    "window_stride": ("sliding_window_stride",),
}


def accepts(path: Path, content: object) -> bool:
    """Whether it is a folder whose config.json is of no model of transformers, with weights."""
    if not (path / "config.json").is_file() or "model_type" in read_config(path):
        return False
    return any((path / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))


def open_source(path: Path, content: None = None, **options: Any) -> Source:
    """
    Opens such a folder; the options are those of the format of its state dict.

    Raises:
        InputError: when it holds neither the book's names nor GPT-2's, or is damaged.
        UsageError: for an option that its state dict has no use for.
    """
    settings = read_config(path)
    nested = (value for value in settings.values() if isinstance(value, dict))
    settings = {name: value for part in (*nested, settings) for name, value in part.items()}
    weights = Checkpoint(path)
    refuse_foreign(path, weights.shapes, settings)
    found = next((name for name, module in MODULES.items() if module.accepts(path, weights)), None)
    if found is None:
        raise InputError(
            f"{path} is no model of transformers (its config.json has no model_type), and its weights have the names"
            f" of none of the formats {', '.join(MODULES)}."
        )
    for name in options.keys() - FORMATS[found]:
        raise UsageError(f"--{name.replace('_', '-')} does not apply to {path}, which holds a {found} model.")
    told = _told(settings, FORMATS[found])
    source = MODULES[found].open_source(path, weights, **{**told, **options})
    for name in told.keys() - options.keys():
        source.assumed.pop(name, None)
    own_tokenizer = has_tokenizer(path)
    return replace(
        source,
        format=f"{source.format} of PyTorchModelHubMixin",
        files=[*weights.files, path / "config.json"],
        folder=path if own_tokenizer else None,
        tokenizer=None if own_tokenizer else source.tokenizer,
    )


def _told(settings: dict[str, Any], options: frozenset[str]) -> dict[str, int]:
    """Those of a state dict's `options` that the constructor's arguments tell; without a window they tell of none."""
    told = {"window": 0} if "window" in options else {}
    for option in NAMES.keys() & options:
        numbers = (settings.get(name) for name in NAMES[option])
        whole = (number for number in numbers if type(number) is int)
        found = (number for number in whole if number > 0 or option == "window_stride")  # which may be 0 or -1
        if (number := next(found, None)) is not None:
            told[option] = number
    return told
