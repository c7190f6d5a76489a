"""The values of what a checkpoint's files do not hold that a text may tell apart, see `evidence`."""

from collections.abc import Callable
from math import log
from typing import Any

from .choices import ACTIVATIONS, ATTENTION_SCALES
from .source import Source
from .state_dict import HEAD_DIM

LONGEST = 1024  # tokens of a window of text
MOST_HEADS = 24  # candidates


def _head_counts(source: Source) -> list[int]:
    """The divisors of the width that leave each head 4 dimensions or more, the likeliest where they are many."""
    width = source.config.n_embd
    divisors = [n for n in range(1, max(1, width // 4) + 1) if width % n == 0]
    return sorted(sorted(divisors, key=lambda n: abs(log(width / n / HEAD_DIM)))[:MOST_HEADS])


def _attention_scales(source: Source) -> list[str]:
    """All, of which two are the same in the first block."""
    return [scale for scale in ATTENTION_SCALES if source.config.n_layer > 1 or scale != "root-and-layer"]


def _windows(source: Source) -> list[int]:
    """None, the powers of two, and what is half-way between."""
    shorter = (1, *(width << power for power in range(12) for width in (2, 3)))
    return [0, *(width for width in shorter if width < longest(source))]


def _strides(source: Source) -> list[int]:
    """A window in all blocks, or in all but every second, third, ..., last one."""
    return [-1, *range(1, min(source.config.n_layer, 9))]


def _lora_scales(source: Source) -> list[float]:
    """The powers of two, and alpha or alpha / rank for an alpha of the rank, twice or half of it."""
    tensors = source.originals or source.tensors
    ranks = {shape[1] for name, shape in tensors.shapes.items() if name.endswith(".lora.A")}
    return sorted(
        {2.0**power for power in range(-4, 11)} | {rank * part for rank in ranks for part in (0.5, 1.0, 2.0)}
    )


# By the setting's name
CANDIDATES: dict[str, Callable[[Source], list]] = {
    "n_head": _head_counts,
    "window": _windows,
    "window_stride": _strides,
    "lora_scale": _lora_scales,
    "attention_scale": _attention_scales,
    "activation": lambda source: list(ACTIVATIONS),
}
TOGETHER = ("n_head", "attention_scale")  # of which the right one may only show beside the other
SIZES = ("window", "lora_scale")  # between whose candidates the true value may lie
# To begin with, for those that a format cannot do without
START: dict[str, Any] = {"n_head": 1, "lora_scale": 1.0}


def longest(source: Source) -> int:
    """The most tokens that are read at once."""
    return min(source.config.n_positions, LONGEST)
