"""
FlaxGPT2 of transformers before version 5: a model folder whose weights are `flax_model.msgpack`, read without Flax.

Source: transformers' `models/gpt2/modeling_flax_gpt2.py` and flax's `serialization.py`. Maps of names hold maps, and
at last arrays, as msgpack's extension type 1, which is itself msgpack: shape, name of the type, bytes. An array of
more than 2**30 bytes is a map of pieces. The names are those of stock GPT-2, but for `kernel`, `scale` and
`embedding`; the matrices of linear layers are `(out, in)`, that of an untied output head `(in, out)`.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..utils.errors import InputError, one_line
from ..utils.requirements import require_package
from . import hf_gpt2
from .file_kinds import is_model_folder_with
from .source import Renamed, Source, key_of_names

NAME = "Flax GPT-2 of transformers"
FILE = "flax_model.msgpack"
ARRAY = 1  # the extension type
PIECES = "__msgpack_chunked_array__"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
PARTS = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
HEAD = "lm_head.kernel"
DEEPEST = 16  # maps in maps; an array in pieces is at 8
# No list is longer than a shape and no map than a model's blocks; the lists' memory is taken before they are read.
LIMITS = {"max_array_len": 16, "max_map_len": 2**16, "max_str_len": 2**12}


def accepts(path: Path, content: object) -> bool:
    """Whether it is a model folder with `flax_model.msgpack`, and without weights of torch."""
    return is_model_folder_with(path, FILE)


def open_source(folder: Path, content: None = None, as_: str | None = None) -> Source:
    """
    Opens a model folder, with `as_` (one of `hf_gpt2.AS`) as the class of that name.

    Raises:
        InputError: when msgpack is not installed, the file is damaged or holds other names, or the model is not one
            that `hf_gpt2.open_source` takes.
    """
    arrays = Arrays(folder / FILE)
    tensors = Renamed(arrays, key_of_names(arrays.shapes, stock_name))
    return hf_gpt2.source_of(folder, tensors, [folder / FILE], NAME, in_out=False, as_=as_)


def stock_name(name: str) -> str:
    """The name in stock GPT-2 of an array."""
    module, dot, part = name.rpartition(".")
    return module + dot + PARTS.get(part, part)


@dataclass(frozen=True)
class Array:
    """
    An array in the file: its shape, the name of its type, and where its pieces begin and how many bytes they have.

    Raises:
        ValueError: when it has no such shape or type.
    """

    shape: tuple[int, ...]
    dtype: str
    pieces: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.dtype, str) or not isinstance(self.shape, tuple):
            raise ValueError("an array has no shape or no type")
        if any(type(size) is not int or size < 0 for size in self.shape):
            raise ValueError(f"an array has the shape {self.shape}")


class Arrays:
    """
    The arrays of a file of flax by name, the names of its maps joined by dots, each read when it is asked for; the
    output head as `(out, in)`.

    Raises:
        InputError: when msgpack is not installed, or the file is damaged or holds anything but arrays.
    """

    def __init__(self, path: Path):
        require_package("msgpack", "convert", f"Reading {path}")
        self._path = path
        try:
            with open(path, "rb") as file:
                self._arrays = _flat(_Reader(file, path.stat().st_size).map(0))
            for name, array in self._arrays.items():
                _check_size(name, array)
        except Exception as error:  # a damaged file makes msgpack stumble in any way
            raise InputError(f"{path} is damaged or cut short ({one_line(error)}).") from None
        self.shapes = {
            name: array.shape[::-1] if name == HEAD else array.shape for name, array in self._arrays.items()
        }
        self.dtypes = {name: DTYPES.get(array.dtype) for name, array in self._arrays.items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        array, values = self._arrays[name], bytearray()
        with open(self._path, "rb") as file:
            for start, length in array.pieces:
                file.seek(start)
                values += file.read(length)
        dtype = DTYPES[array.dtype]
        tensor = torch.frombuffer(values, dtype=dtype) if values else torch.empty(0, dtype=dtype)
        tensor = tensor.reshape(array.shape)
        return tensor.t() if name == HEAD else tensor


def _check_size(name: str, array: Array) -> None:
    """Raises `ValueError` when an array of a type that weights have is shorter or longer than its shape asks for."""
    size = sum(length for _, length in array.pieces)
    if array.dtype in DTYPES and math.prod(array.shape) * DTYPES[array.dtype].itemsize != size:
        raise ValueError(f"{name} claims the shape {list(array.shape)}, but has {size} bytes")


class _Reader:
    """Reads the maps of a file, and of its arrays only what they are and where."""

    def __init__(self, file: BinaryIO, size: int):
        import msgpack

        limits = {**LIMITS, "max_buffer_size": size, "max_bin_len": size, "max_ext_len": size}
        self._unpacker = msgpack.Unpacker(file, ext_hook=_describe, use_list=False, **limits)

    def map(self, depth: int) -> dict[str, Any]:
        """The map that begins here; its values are maps or `Array`s, and in an array of pieces also numbers."""
        if depth > DEEPEST:
            raise RecursionError("its maps are too deep")
        entries: dict[str, Any] = {}
        for _ in range(self._unpacker.read_map_header()):
            name = self._unpacker.unpack()
            if not isinstance(name, str) or name in entries:
                raise ValueError(f"the name {name!r} is no name, or occurs twice")
            entries[name] = self._value(depth)
        return _joined(entries) if PIECES in entries else entries

    def _value(self, depth: int) -> Any:
        import msgpack

        start = self._unpacker.tell()
        try:
            return self.map(depth + 1)
        except (msgpack.UnpackValueError, ValueError):
            if self._unpacker.tell() != start:
                raise
        value = self._unpacker.unpack()
        if isinstance(value, Array):
            [(_, length)] = value.pieces
            return replace(value, pieces=((self._unpacker.tell() - length, length),))
        return value


def _describe(code: int, data: bytes) -> Array:
    """An array as its entry says it is; its bytes are the last of the entry."""
    import msgpack

    if code != ARRAY:
        raise ValueError(f"an entry of the type {code} is no array")
    shape, dtype, values = msgpack.unpackb(data, use_list=False, **LIMITS, max_bin_len=len(data))
    return Array(shape, dtype, ((0, len(values)),))


def _joined(entries: dict[str, Any]) -> Array:
    """The array that a map of pieces is."""
    shape, pieces = (tuple(entries[name][str(i)] for i in range(len(entries[name]))) for name in ("shape", "chunks"))
    if not all(isinstance(piece, Array) for piece in pieces) or len({piece.dtype for piece in pieces}) != 1:
        raise ValueError("the pieces of an array are not of one type")
    return Array(shape, pieces[0].dtype, tuple(place for piece in pieces for place in piece.pieces))


def _flat(entries: dict[str, Any], prefix: str = "") -> dict[str, Array]:
    """All arrays by their whole names."""
    arrays: dict[str, Array] = {}
    for name, value in entries.items():
        if isinstance(value, dict):
            found = _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Array):
            found = {prefix + name: value}
        else:
            raise ValueError(f"{prefix}{name} is not an array")
        if arrays.keys() & found.keys():
            raise ValueError(f"{next(iter(found))} occurs twice")
        arrays |= found
    return arrays
