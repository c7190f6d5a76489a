"""
A cache of keys and values with room to spare: a step writes those of its own tokens beside the others, where
transformers' `DynamicCache` copies all of them to append one.
"""

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 64  # tokens, beyond those that a layer holds


class GrowingLayer(DynamicLayer):
    """A block's keys and values, `(B, n_head, S, head_dim)`: the first `S` places of longer tensors."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Appends those of new tokens, `(B, n_head, T, head_dim)`, and returns all."""
        if not self.is_initialized:
            self.fill([(key_states, value_states)])
            return self.keys, self.values
        past, new = self.keys.shape[2], key_states.shape[2]
        is_changed = self.keys.data_ptr() != self._long_keys.data_ptr()  # its rows were reordered, as beam search does
        if is_changed or past + new > self._long_keys.shape[2]:
            self.fill([(self.keys, self.values)], room=new + ROOM)
        self._long_keys[:, :, past : past + new] = key_states
        self._long_values[:, :, past : past + new] = value_states
        self.keys, self.values = (long[:, :, : past + new] for long in (self._long_keys, self._long_values))
        return self.keys, self.values

    def reset(self) -> None:
        """Forgets all tokens. The oldest transformers admitted keeps as many places, of zeros."""
        self.keys = self.values = self._long_keys = self._long_values = None
        self.is_initialized = False

    def fill(self, parts: Sequence[tuple[torch.Tensor, torch.Tensor]], room: int = ROOM) -> None:
        """Holds the keys and values of some rows, then of others, with zeros on the left of the shorter ones."""
        if not self.is_initialized:
            self.lazy_initialization(*parts[0])
        longest = max(keys.shape[2] for keys, _ in parts)
        self._long_keys, self._long_values = (_right_aligned(states, longest, room) for states in zip(*parts))
        self.keys, self.values = self._long_keys[:, :, :longest], self._long_values[:, :, :longest]


def _right_aligned(parts: Sequence[torch.Tensor], longest: int, room: int) -> torch.Tensor:
    rows, (_, heads, _, size) = sum(len(part) for part in parts), parts[0].shape
    held, row = parts[0].new_zeros(rows, heads, longest + room, size), 0
    for part in parts:
        held[row : row + len(part), :, longest - part.shape[2] : longest] = part
        row += len(part)
    return held


class GrowingCache(Cache):
    """A `GrowingLayer` for each block. All blocks keep all tokens, also those that look only so far back."""

    def __init__(self):
        super().__init__(layer_class_to_replicate=GrowingLayer)

    @classmethod
    def of_rows(cls, parts: Sequence[tuple[Cache, torch.Tensor, int]]) -> "GrowingCache":
        """
        Rows of several caches in one, where all end together: shorter ones have zeros on the left, as padding has.

        Args:
            parts: the caches, with the rows to take, `(B,)`, and how many tokens of them.
        """
        joined = cls()
        for layers in zip(*(cache.layers for cache, _, _ in parts)):
            layer = GrowingLayer()
            layer.fill(
                [
                    (one.keys[rows, :, -length:], one.values[rows, :, -length:])
                    for one, (_, rows, length) in zip(layers, parts)
                ]
            )
            joined.layers.append(layer)
        return joined
