"""
A key map: a checkpoint format as a table, which of its tensors are which of ours. It is read in both directions.

The idea is litgpt's and torchtitan's: a dictionary of names with `{i}` for the block, and no code a format.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

QKV = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class KeyMapping:
    """
    One row of a format's table.

    Args:
        theirs: the tensor's name in the other format.
        ours: its name here; several when the other format keeps them joined along the output dimension.
        transpose: the other format keeps a matrix as `(in, out)`, where nn.Linear has `(out, in)`.
    """

    theirs: str
    ours: tuple[str, ...]
    transpose: bool = False

    def for_layer(self, i: int) -> "KeyMapping":
        """The row with `{i}` filled in."""
        return KeyMapping(self.theirs.format(i=i), tuple(name.format(i=i) for name in self.ours), self.transpose)

    def with_prefix(self, prefix: str) -> "KeyMapping":
        """The row with `prefix` before every name."""
        return KeyMapping(prefix + self.theirs, tuple(prefix + name for name in self.ours), self.transpose)

    def to_ours(self, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        """Their tensor as ours, by name: views of it."""
        tensor = tensor.t() if self.transpose else tensor
        return dict(zip(self.ours, tensor.chunk(len(self.ours))))

    def to_theirs(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor:
        """Our tensors, in the order of `ours`, as theirs, of any strides."""
        joined = torch.cat(list(tensors))
        return joined.t() if self.transpose else joined

    def their_shape(self, native_shapes: Iterable[Iterable[int]]) -> tuple[int, ...]:
        """The shape of their tensor, given the shapes of ours."""
        first, *others = (tuple(shape) for shape in native_shapes)
        joined = (first[0] + sum(shape[0] for shape in others), *first[1:])
        return joined[::-1] if self.transpose else joined


def expand(table: Iterable[KeyMapping], n_layer: int) -> list[KeyMapping]:
    """The table's rows for a model of `n_layer` blocks."""
    rows = []
    for row in table:
        rows += [row.for_layer(i) for i in range(n_layer)] if "{i}" in row.theirs else [row]
    return rows
