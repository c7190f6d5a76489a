"""
Reading a pickle without running it: plain values, and classes as inert records of their state. Nothing is imported,
called or built but dictionaries, lists, tuples, numbers, texts, tensors and `Record`.

Python's own unpickler is not used. `pickletools.genops` splits the bytes into operations, of which those below are
understood, and any other refuses the file. A file of torch.save is a zip archive with such a pickle, `data.pkl`, in
which tensors are calls of torch's `_rebuild_tensor_v2` on storages, each an entry of its own (torch's
`serialization.py` and `_utils.py`); these calls are recognised by name and done here.
"""

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

STORAGES = {
    **{"HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "FloatStorage": torch.float32},
    **{"DoubleStorage": torch.float64, "BoolStorage": torch.bool, "ByteStorage": torch.uint8},
    **{"IntStorage": torch.int32, "LongStorage": torch.int64},
}
MARK = object()
# What stands for itself in the stream: numbers, texts, bytes
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "MARK": lambda: MARK},
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class InertPickleError(ValueError):
    """For a pickle that holds more than values and records, or is damaged."""


@dataclass(frozen=True, eq=False)
class Global:
    """The name of a class or a function, which is never looked up."""

    name: str


@dataclass(frozen=True, eq=False)
class Record:
    """An object of the class of that name: its attributes, and none of its code."""

    name: str
    state: dict[str, Any] = field(default_factory=dict)


def loads(content: bytes, load_storage: Callable[[Any], "Storage"] | None = None) -> Any:
    """
    The value that a pickle holds.

    Args:
        load_storage: takes a persistent id, as torch.save writes them; without it, there may be none.

    Raises:
        InertPickleError: for a call, an object that restores itself by code, or anything that is not understood.
    """
    machine = _Machine(load_storage)
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "STOP":
                return machine.only_value()
            machine.run(operation.name, argument)
    except InertPickleError:
        raise
    except Exception as error:  # damaged bytes make the reader stumble in any way
        raise InertPickleError(f"it is damaged ({type(error).__name__})") from None
    raise InertPickleError("it has no end")


def load_archive(path: Path) -> Any:
    """What a zip archive of torch.save holds, its tensors mapped from disk; raises `InertPickleError`, as `loads`."""
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InertPickleError("it is no archive of torch.save")
        home = pickles[0].removesuffix("data.pkl")
        if f"{home}byteorder" in archive.namelist() and archive.read(f"{home}byteorder") != b"little":
            raise InertPickleError("its numbers are big-endian")
        return loads(archive.read(pickles[0]), _Storages(path, archive, home).load)


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers of one or more tensors, in a row."""

    dtype: torch.dtype
    data: torch.UntypedStorage


class _Storages:
    """The storages of an archive, by their persistent ids."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, home: str):
        self._path, self._archive, self._home = path, archive, home
        self._whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)

    def load(self, persistent_id: Any) -> Storage:
        kind, storage, key, _, count = persistent_id
        name = storage.name.removeprefix("torch.") if isinstance(storage, Global) else None
        if kind != "storage" or name not in STORAGES or not isinstance(key, str) or not _is_count(count):
            raise InertPickleError("a storage in it is of a kind that is not known")
        entry = self._archive.getinfo(f"{self._home}data/{key}")
        start, dtype = self._start(entry), STORAGES[name]
        size = count * dtype.itemsize
        if size > entry.file_size or start + size > self._whole.nbytes():
            raise InertPickleError("a storage in it is cut short")
        return Storage(dtype, self._whole[start : start + size])

    def _start(self, entry: zipfile.ZipInfo) -> int:
        # The zip format's local file header: 30 bytes, at 26 the lengths of the name and of the extra field
        with open(self._path, "rb") as file:
            file.seek(entry.header_offset)
            header = file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise InertPickleError("it is damaged")
        return entry.header_offset + 30 + sum(struct.unpack_from("<HH", header, 26))


class _Machine:
    """The unpickler's stack and memo, and the operations that it understands."""

    def __init__(self, load_storage: Callable[[Any], Storage] | None):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._load_storage = load_storage

    def only_value(self) -> Any:
        if len(self.stack) != 1 or self.stack[0] is MARK:
            raise InertPickleError("it is damaged")
        return self.stack[0]

    def run(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in TUPLES:
            self.stack[-TUPLES[name] :] = [tuple(self._last(TUPLES[name]))]
        elif (operation := getattr(self, f"do_{name.lower()}", None)) is not None:
            operation(argument)
        else:
            raise InertPickleError(f"its operation {name} is not one of plain values")

    def _last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise InertPickleError("it is damaged")
        return self.stack[-count:]

    def _since_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def do_proto(self, version: int) -> None:
        pass

    do_frame = do_proto

    def do_pop(self, _) -> None:
        self.stack.pop()

    def do_dup(self, _) -> None:
        self.stack.append(self.stack[-1])

    def do_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_memoize(self, _) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_binget = do_long_binget = do_get

    def do_tuple(self, _) -> None:
        self.stack.append(tuple(self._since_mark()))

    def do_list(self, _) -> None:
        self.stack.append(self._since_mark())

    def do_dict(self, _) -> None:
        values = self._since_mark()
        self.stack.append({})
        self._set(values)

    def do_append(self, _) -> None:
        self._extend([self.stack.pop()])

    def do_appends(self, _) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise InertPickleError("it appends to something that is no list")
        self.stack[-1].extend(values)

    def do_setitem(self, _) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def do_setitems(self, _) -> None:
        self._set(self._since_mark())

    def _set(self, values: list[Any]) -> None:
        target = self.stack[-1]
        # Plain keys alone: the hash of tuples nested in each other takes forever.
        if type(target) is not dict or not all(isinstance(key, str | int | float) for key in values[::2]):
            raise InertPickleError("it has a mapping with keys that are neither texts nor numbers")
        target.update(zip(values[::2], values[1::2], strict=True))

    def do_global(self, argument: str) -> None:
        self.stack.append(Global(argument.replace(" ", ".", 1)))

    def do_stack_global(self, _) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:  # and to print what holds itself many times takes forever
            raise InertPickleError("it names a class by something that is no text")
        self.stack.append(Global(f"{module}.{name}"))

    def do_newobj(self, _) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, Global) or arguments != ():
            raise InertPickleError("it makes an object with arguments")
        self.stack.append(Record(kind.name))

    def do_build(self, _) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(state, tuple) and len(state) == 2 and state[0] is None:
            state = state[1]  # of a class with __slots__
        if type(target) is dict and type(state) is dict:
            return  # the attributes of an OrderedDict, such as a state dict's _metadata
        if not isinstance(target, Record) or type(state) is not dict or not all(type(key) is str for key in state):
            raise InertPickleError("it restores something that is no plain object")
        target.state.update(state)

    def do_reduce(self, _) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.name if isinstance(function, Global) else ""
        if name not in CALLS or type(arguments) is not tuple:
            raise InertPickleError(f"it calls {name or 'something'}")
        self.stack.append(CALLS[name](*arguments))

    def do_binpersid(self, _) -> None:
        if self._load_storage is None:
            raise InertPickleError("it refers to something outside itself")
        self.stack.append(self._load_storage(self.stack.pop()))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    if not isinstance(storage, Storage) or not all(type(part) is tuple for part in (size, stride)):
        raise InertPickleError("a tensor in it is of a kind that is not known")
    if len(size) != len(stride) or not all(map(_is_count, (offset, *size, *stride))):
        raise InertPickleError("a tensor in it has no shape")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride)) if math.prod(size) else offset - 1
    if (last + 1) * storage.dtype.itemsize > storage.data.nbytes():
        raise InertPickleError("a tensor in it claims more than its storage holds")
    return torch.empty(0, dtype=storage.dtype).set_(storage.data, offset, size, stride)


def _parameter(data: Any, *_: Any) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise InertPickleError("a parameter in it is no tensor")
    return data


def _ordered_dict(*pairs: Any) -> dict:
    if pairs:
        raise InertPickleError("it makes an object with arguments")
    return {}


# The calls that torch.save writes for a state dict, done here
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _ordered_dict,
}
