"""
Whether the settings of a model's folder can be meant: numbers where numbers must be, and sizes that its weights have.
A model is built, and memory taken, only after that.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError
from ..utils.numbers import is_number
from ..utils.special_tokens import token_ids
from .weight_files import is_plain_name

SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "num_labels", "sliding_window")
LARGEST = 2**31
DEEPEST = 10_000  # blocks
MOST_LABELS = 1_000_000
SMALLEST = 1 / 3  # bytes of a weight, with some room below those of 4 bits
SMALL = 10**7  # weights, which are in memory in no time
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def require_sizes(settings: Mapping, path: str | os.PathLike) -> None:
    """
    Raises `InputError` for sizes that no model has, before transformers makes lists and tables of that length.

    Args:
        settings: what config.json, at `path`, holds.
    """
    aliases = {alias: name for alias, name in GPTScratchConfig.attribute_map.items() if name in SIZES}
    most = {"n_layer": DEEPEST, "num_labels": MOST_LABELS}
    for name in (*SIZES, *aliases, *TOKENS):
        value, limit = settings.get(name), most.get(aliases.get(name, name), LARGEST)
        if isinstance(value, int | float) and not -1 <= value <= limit:
            raise InputError(
                f"{path} cannot be meant: its {name} is {str(value)[:30]}, and at most {limit:,} is read."
            )


def require_usable(config: GPTScratchConfig, folder: Path) -> None:
    """
    Raises `InputError` for a configuration, of the folder's config.json, whose labels or calibration are of another
    type than they must be, or which names weights elsewhere.
    """
    path = folder / "config.json"
    names = config.id2label
    if not (isinstance(names, dict) and set(names) == set(range(len(names))) and all(map(_is_name, names.values()))):
        raise InputError(f"{path} must give each label a name in its id2label, from 0 on; save the model again.")
    named = getattr(config, "transformers_weights", None)
    if named is not None and not (isinstance(named, str) and is_plain_name(named)):
        raise InputError(
            f"{path} names weights outside of its folder, {str(named)[:80]!r}; delete transformers_weights."
        )
    if fault := _fault_of_calibration(getattr(config, "calibration", None), len(names)):
        raise InputError(f"The calibration in {path} is damaged: {fault}; calibrate again.")


def require_weights_for(config: GPTScratchConfig, folder: Path) -> None:
    """Raises `InputError` for a large model of whose weights the folder has a small part: building it takes memory."""
    stored = sum(path.stat().st_size for path in folder.glob("*.*") if path.suffix in (".safetensors", ".bin"))
    block = 4 * config.n_embd**2 + 2 * config.n_embd * (config.n_inner or 4 * config.n_embd)
    weights = (config.vocab_size + config.n_positions) * config.n_embd + config.n_layer * block
    if stored and weights > SMALL and weights * SMALLEST > stored:
        raise InputError(
            f"{folder / 'config.json'} describes a model of {weights:,} weights or more, and the folder has {stored:,}"
            " bytes of them; save the model again."
        )


def require_generation(generation, folder: Path) -> None:
    """Raises `InputError` for a generation config with tokens or settings that are none."""
    path = folder / "generation_config.json"
    for name in TOKENS:
        value = getattr(generation, name, None)
        if not all(type(token) is int for token in token_ids(value)):
            raise InputError(f"The {name} in {path} must be the number of a token; save the model again.")
    for name in ("temperature", "top_p", "repetition_penalty", "top_k", "max_new_tokens"):
        value = getattr(generation, name, None)
        is_whole = name in ("top_k", "max_new_tokens")
        if value is not None and not (is_number(value) and value >= 0 and (not is_whole or type(value) is int)):
            raise InputError(f"The {name} in {path} must be a number, not {str(value)[:30]}; correct it.")


def _is_name(value) -> bool:
    return isinstance(value, str)


def _fault_of_calibration(calibration, labels: int) -> str | None:
    """What is wrong with a calibration, as `pipeline_gpt_scratch.Calibration` describes it, of so many labels."""
    if calibration is None:
        return None
    if not isinstance(calibration, dict):
        return f"it must be a table, not a {type(calibration).__name__}"
    known = {name: value for name, value in calibration.items() if value is not None}

    def is_one_or_each(value) -> bool:
        each = isinstance(value, list) and len(value) == labels and all(map(is_number, value))
        return each or is_number(value)

    early = known.get("early", {})
    for name, is_right in {
        "temperature must be a number above 0": is_number(known.get("temperature", 1))
        and known.get("temperature", 1) > 0,
        "shift must be a number, or one for each label": is_one_or_each(known.get("shift", 0)),
        "threshold must be a number, or one for each label": is_one_or_each(known.get("threshold", 0)),
        "outside_threshold must be a number": is_number(known.get("outside_threshold", 0)),
        "outside_label must be a name": _is_name(known.get("outside_label", "")),
        "early must be tables with a threshold": isinstance(early, dict) and all(map(_is_early, early.items())),
    }.items():
        if not is_right:
            return f"its {name}"
    return None


def _is_early(item) -> bool:
    agreement, table = item
    try:
        float(agreement)
    except ValueError:
        return False
    return isinstance(table, dict) and is_number(table.get("threshold"))
