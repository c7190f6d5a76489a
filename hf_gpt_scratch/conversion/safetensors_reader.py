"""Reading one safetensors file from anyone: its header at once, its tensors one at a time when they are asked for."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..utils.errors import InputError
from .safetensors_file import DTYPES


class SafetensorsFile(Mapping):
    """
    The tensors of a file by name, as a `Tensors`, and as a mapping like that which torch.load gives.

    Raises:
        InputError: when the file is damaged or cut short, or names a tensor twice.
    """

    def __init__(self, path: Path):
        self._path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype | None] = {}
        try:
            with safe_open(path, framework="pt") as tensors:  # which bounds the header's length
                _check_header(path)
                for key in tensors.keys():  # noqa: SIM118 (not a dict)
                    part = tensors.get_slice(key)
                    self.shapes[key], self.dtypes[key] = tuple(part.get_shape()), DTYPES.get(part.get_dtype())
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{path} is damaged or cut short ({error}).") from None

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        with safe_open(self._path, framework="pt") as tensors:
            return tensors.get_tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object's pairs as a dict, for `object_pairs_hook`; raises `ValueError` for a name that occurs twice."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        key = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"{key} occurs twice")
    return entries


def _check_header(path: Path) -> None:
    # The library takes the last of several entries for a key, other readers the first.
    with open(path, "rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=without_twins)
