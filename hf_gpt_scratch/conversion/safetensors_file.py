"""
Writing safetensors a tensor at a time; the library's own `save_file` wants all of a file in memory.

Source of the layout: the section "Format" in the README of huggingface/safetensors. Eight bytes hold the length of a
JSON header, in which every tensor has its type, shape and place; then come the tensors, without gaps.
"""

import json
import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from huggingface_hub import split_torch_state_dict_into_shards

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
THREADS = 2
TILE = 128
PIECE = 2**20  # bytes transposed at once
WRITE = 2**18  # bytes written at once; for more, Linux looks for pages of that size, which takes it far longer


def write_safetensors(
    folder: Path,
    layout: dict[str, torch.Tensor],
    make: Callable[[str], torch.Tensor],
    max_shard_size: str = "5GB",
) -> None:
    """
    Writes `make(name)` for every name in `layout` as `model.safetensors`, or as shards of at most `max_shard_size` and
    an index. A few tensors are in memory at a time.

    Args:
        layout: tensors on the device "meta", of the shapes and types that `make` will return.
        make: may return a view of any strides.

    Raises:
        ValueError: when a tensor is not of the shape and type that `layout` promises.
    """
    plan = split_torch_state_dict_into_shards(
        layout, filename_pattern="model{suffix}.safetensors", max_shard_size=max_shard_size
    )
    for file, names in plan.filename_to_tensors.items():
        # The widest types first, as the library has it, so that each tensor begins at a multiple of its type's size.
        names = sorted(names, key=lambda name: -layout[name].itemsize)
        _write_file(folder / file, {name: layout[name] for name in names}, make)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_file(path: Path, layout: dict[str, torch.Tensor], make: Callable[[str], torch.Tensor]) -> None:
    header = _header(layout)
    path.write_bytes(header)
    start, pending, lock = len(header), deque(), Lock()
    with ThreadPoolExecutor(max_workers=THREADS) as writers:
        for name, expected in layout.items():
            if len(pending) > THREADS:  # the others' tensors and the next one are all that is in memory
                pending.popleft().result()
            tensor = make(name)
            if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
                raise ValueError(
                    f"{name} is {tensor.dtype} {list(tensor.shape)}, not {expected.dtype} {list(expected.shape)}."
                )
            pending.append(writers.submit(_write_tensor, path, start, tensor, lock))
            start += tensor.nbytes
        for write in pending:
            write.result()


def _write_tensor(path: Path, start: int, tensor: torch.Tensor, lock: Lock) -> None:
    # NumPy copies on the thread it is called on, torch on all of them; integers, as NumPy has no bfloat16.
    values = tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.itemsize]).numpy()
    values = values if values.ndim == 2 else np.ascontiguousarray(values)
    rows = max(1, PIECE // max(1, values[:1].nbytes))
    buffer = None if values.flags.c_contiguous else np.empty((rows, *values.shape[1:]), values.dtype)
    with open(path, "r+b", buffering=0) as file:
        file.seek(start)
        for first in range(0, len(values), rows):
            piece = values[first : first + rows]
            data = memoryview(piece if buffer is None else _copied(piece, buffer[: len(piece)])).cast("B")
            with lock:  # Linux lets one thread write to a file at a time, and the other would wait for it busily
                _write_all(file, data)


def _write_all(file: FileIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data[:WRITE]) :]


def _copied(values: np.ndarray, result: np.ndarray) -> np.ndarray:
    """Copies a matrix that is transposed in memory, by so little at a time that the processor's cache holds it."""
    # At steps of 4,096 bytes what is read falls on the same few places in the cache: it goes by way of another array.
    between = np.empty((TILE, TILE + 1), values.dtype) if values.strides[1] % 4096 == 0 else None
    height = len(values) if between is None else TILE
    for row in range(0, len(values), height):
        for column in range(0, values.shape[1], TILE):
            tile = values[row : row + height, column : column + TILE].T
            if between is not None:
                between[: tile.shape[0], : tile.shape[1]] = tile
                tile = between[: tile.shape[0], : tile.shape[1]]
            result[row : row + height, column : column + TILE] = tile.T
    return result


def _header(layout: dict[str, torch.Tensor]) -> bytes:
    codes = {dtype: code for code, dtype in DTYPES.items()}
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in layout.items():
        end = offset + tensor.nbytes
        entries[name] = {
            "dtype": codes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header
