"""
Reading a GGUF file from anyone, by llama.cpp's own package gguf, once its header is known to fit into the file.

Source of the layout: ggml's `docs/gguf.md`. The package follows every count in the header, so that a false one would
keep it busy for ever or fill the memory: `_check_header` looks at them first.
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..utils.errors import InputError, one_line
from ..utils.requirements import require_package

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9  # kinds of values
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of each other kind
MOST_ITEMS = 2**22  # in all arrays; the largest vocabularies have a quarter of a million tokens and as many merges
DTYPES = ("F32", "F16", "BF16", "Q8_0")


class GGUFFile:
    """
    The tensors of a GGUF file by name, in the shapes that torch has for them, each read when it is asked for; and its
    settings.

    All of them come as float32: what llama.cpp keeps in fewer bits is widened by gguf's own code, and never loses
    any, as norms and biases are always F32 there.

    Attributes:
        types: what each tensor is in the file, such as "Q8_0".

    Raises:
        InputError: when gguf is not installed, the file is damaged or in parts, or a tensor is not one of `DTYPES`.
    """

    def __init__(self, path: Path):
        require_package("gguf", "convert", f"Reading {path}")
        import gguf

        self._path = path
        try:
            _check_header(path)
            reader = gguf.GGUFReader(path)
            self.settings: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        except Exception as error:  # a damaged file makes the reader stumble in any way
            raise InputError(f"{path} is damaged or cut short ({one_line(error)}).") from None
        places = sorted((int(tensor.data_offset), int(tensor.n_bytes)) for tensor in reader.tensors)
        if any(start + size > after for (start, size), (after, _) in zip(places, places[1:])):
            raise InputError(f"The tensors in {path} overlap each other; the file is damaged.")
        self.types = {name: tensor.tensor_type.name for name, tensor in self._tensors.items()}
        if others := sorted(set(self.types.values()) - set(DTYPES)):
            raise InputError(
                f"{path} holds tensors of the type {', '.join(others)}, but only {', '.join(DTYPES)} can be converted:"
                f" convert the model it was made from, or make a Q8_0 of it with llama.cpp's `llama-quantize"
                " --allow-requantize`."
            )
        self.shapes = {name: tuple(map(int, tensor.shape[::-1])) for name, tensor in self._tensors.items()}
        self.dtypes = dict.fromkeys(self.shapes, torch.float32)

    def __getitem__(self, name: str) -> torch.Tensor:
        from gguf import dequantize

        tensor = self._tensors[name]
        values = dequantize(np.asarray(tensor.data), tensor.tensor_type)
        return torch.from_numpy(np.array(values, np.float32).reshape(self.shapes[name]))


def _check_header(path: Path) -> None:
    """Raises `ValueError` where the header is longer than the file, or claims more values than any model has."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = _Header(content)
        header.skip(len(MAGIC))
        if (version := header.number("<I")) not in VERSIONS:
            raise ValueError(f"its version is {version}")
        tensors, settings = header.number("<Q"), header.number("<Q")
        for _ in range(header.at_most(settings, 13)):
            header.string()
            header.value(header.number("<I"))
        for _ in range(header.at_most(tensors, 24)):
            header.string()
            dimensions = header.number("<I")
            if dimensions > 4:
                raise ValueError(f"a tensor has {dimensions} dimensions")
            header.skip(8 * dimensions + 12)


class _Header:
    """A place in the file that moves on, and never beyond its end."""

    def __init__(self, content: mmap.mmap):
        self._content, self._at, self._items = content, 0, 0

    def skip(self, size: int) -> None:
        if size > len(self._content) - self._at:
            raise ValueError("its header goes beyond its end")
        self._at += size

    def number(self, kind: str) -> int:
        start = self._at
        self.skip(struct.calcsize(kind))
        return struct.unpack_from(kind, self._content, start)[0]

    def at_most(self, count: int, size: int) -> int:
        """The count itself, where so many things of at least this size fit into what is left."""
        if count * size > len(self._content) - self._at:
            raise ValueError("its header claims more than the file holds")
        return count

    def string(self) -> None:
        self.skip(self.number("<Q"))

    def value(self, kind: int) -> None:
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            self._array(self.number("<I"), self.number("<Q"))
        elif kind in SIZES:
            self.skip(SIZES[kind])
        else:
            raise ValueError(f"a setting is of the unknown kind {kind}")

    def _array(self, kind: int, count: int) -> None:
        self._items += count
        if self._items > MOST_ITEMS or kind == ARRAY:
            raise ValueError("its lists are longer than those of any model")
        if kind in SIZES:
            self.skip(count * SIZES[kind])
        else:
            for _ in range(count):
                self.value(kind)


def whole_number(settings: dict[str, Any], name: str) -> int:
    """A setting that must be a whole number above 0; raises `ValueError` when it is not, or missing."""
    value = settings.get(name)
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number above 0, not {value!r}.")
    return value


def positive_number(settings: dict[str, Any], name: str) -> float:
    """A setting that must be a number above 0, as it was before it became a float of 32 bits."""
    value = settings.get(name)
    if type(value) is not float or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a number above 0, not {value!r}.")
    return float(str(np.float32(value)))
