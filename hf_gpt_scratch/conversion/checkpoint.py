"""Reading the tensors of a model folder one at a time, so that no model is whole in memory."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..model_folder.weight_files import INDEX, first_weights, named_weights, shards_of, unread_weights
from ..utils.errors import InputError
from .safetensors_file import DTYPES
from .torch_file import TorchTensors, load_torch


class Checkpoint:
    """
    The tensors of a Hugging Face model folder by name: `model.safetensors`, `pytorch_model.bin` or the shards of
    either, whichever transformers would read. Nothing is unpickled but tensors.

    Attributes:
        files: the files read.
        unread: the names of those beside them that hold weights too, and are not read.

    Raises:
        InputError: when there is no such file, a shard is missing or in another folder, or a file is damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        names = {path.name for path in self.folder.iterdir() if path.is_file()}
        first = first_weights(names, named_weights(self.folder))
        if first is None:
            raise InputError(
                f"{self.folder} holds no weights: expected model.safetensors or pytorch_model.bin, whole or in shards."
            )
        files = self._files_of_index(first) if first.endswith(INDEX) else [first]
        self.unread = unread_weights(self.folder, {first, *files})
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype | None] = {}
        self._file_of: dict[str, str] = {}
        self._loaded: tuple[str, TorchTensors] | None = None
        self.files = [self.folder / file for file in files]
        for file in files:
            for key, (shape, dtype) in self._read_header(file).items():
                if key in self.shapes:
                    raise InputError(f"{key} is in both {self._file_of[key]} and {file}; the checkpoint is damaged.")
                self.shapes[key], self.dtypes[key], self._file_of[key] = shape, dtype, file

    def __getitem__(self, key: str) -> torch.Tensor:
        file = self._file_of[key]
        if file.endswith(".bin"):
            return self._load_bin(file)[key]
        with safe_open(self.folder / file, framework="pt") as tensors:
            return tensors.get_tensor(key)

    def _files_of_index(self, name: str) -> list[str]:
        files = shards_of(self.folder / name, _without_twins)
        for file in files:
            if not (self.folder / file).is_file():
                raise InputError(f"{self.folder} lacks the shard {file} listed in {name}.")
        return files

    def _read_header(self, file: str) -> dict[str, tuple[tuple[int, ...], torch.dtype | None]]:
        if file.endswith(".bin"):
            tensors = self._load_bin(file)
            return {key: (shape, tensors.dtypes[key]) for key, shape in tensors.shapes.items()}
        try:
            with safe_open(self.folder / file, framework="pt") as tensors:  # which bounds the header's length
                _check_header(self.folder / file)
                slices = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 (not a dict)
                return {key: (tuple(part.get_shape()), DTYPES.get(part.get_dtype())) for key, part in slices.items()}
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{self.folder / file} is damaged or cut short ({error}).") from None

    def _load_bin(self, file: str) -> TorchTensors:
        if self._loaded is None or self._loaded[0] != file:
            self._loaded = file, TorchTensors(self.folder / file, load_torch(self.folder / file))
        return self._loaded[1]


def _check_header(path: Path) -> None:
    # The library takes the last of several entries for a key, other readers the first.
    with open(path, "rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=_without_twins)


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        key = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"{key} occurs twice")
    return entries
