"""Reading the tensors of a model folder one at a time, so that no model is whole in memory."""

import os
from pathlib import Path

import torch

from ..model_folder.weight_files import INDEX, first_weights, named_weights, shards_of, unread_weights
from ..utils.errors import InputError
from .safetensors_reader import SafetensorsFile, without_twins
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
        self._opened: tuple[str, SafetensorsFile | TorchTensors] | None = None
        self.files = [self.folder / file for file in files]
        for file in files:
            tensors = self._open(file)
            for key, shape in tensors.shapes.items():
                if key in self.shapes:
                    raise InputError(f"{key} is in both {self._file_of[key]} and {file}; the checkpoint is damaged.")
                self.shapes[key], self.dtypes[key], self._file_of[key] = shape, tensors.dtypes[key], file

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._open(self._file_of[key])[key]

    def _files_of_index(self, name: str) -> list[str]:
        files = shards_of(self.folder / name, without_twins)
        for file in files:
            if not (self.folder / file).is_file():
                raise InputError(f"{self.folder} lacks the shard {file} listed in {name}.")
        return files

    def _open(self, file: str) -> SafetensorsFile | TorchTensors:
        if self._opened is None or self._opened[0] != file:
            path = self.folder / file
            is_pickle = file.endswith(".bin")
            self._opened = file, TorchTensors(path, load_torch(path)) if is_pickle else SafetensorsFile(path)
        return self._opened[1]
