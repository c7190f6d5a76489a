"""Reading a checkpoint's tensors one at a time, and writing them in shards, so that no model is whole in memory."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from .torch_file import TorchTensors, load_torch


class Checkpoint:
    """
    The tensors of a Hugging Face model folder by name: `model.safetensors`, `pytorch_model.bin` or the shards of
    either. Nothing is unpickled but tensors.

    Raises:
        InputError: when there is no such file, a shard is missing or lies elsewhere, or a file is damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        for name, is_index in (
            ("model.safetensors.index.json", True),
            ("model.safetensors", False),
            ("pytorch_model.bin.index.json", True),
            ("pytorch_model.bin", False),
        ):
            if (self.folder / name).is_file():
                files = self._files_of_index(name) if is_index else [name]
                break
        else:
            raise InputError(
                f"{self.folder} holds no weights: expected model.safetensors or pytorch_model.bin, whole or in shards."
            )
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._file_of: dict[str, str] = {}
        self._loaded: tuple[str, TorchTensors] | None = None
        self.files = [self.folder / file for file in files]
        for file in files:
            for key, shape in self._read_shapes(file).items():
                if key in self.shapes:
                    raise InputError(f"{key} is in both {self._file_of[key]} and {file}; the checkpoint is damaged.")
                self.shapes[key], self._file_of[key] = shape, file

    def __getitem__(self, key: str) -> torch.Tensor:
        file = self._file_of[key]
        if file.endswith(".bin"):
            return self._load_bin(file)[key]
        with safe_open(self.folder / file, framework="pt") as tensors:
            return tensors.get_tensor(key)

    def _files_of_index(self, name: str) -> list[str]:
        try:
            files = sorted(set(json.loads((self.folder / name).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise InputError(f"{self.folder / name} is not an index of shards.") from None
        for file in files:
            if not isinstance(file, str) or Path(file).name != file:
                raise InputError(f"{self.folder / name} points outside its folder, to {file}.")
            if not (self.folder / file).is_file():
                raise InputError(f"{self.folder} lacks the shard {file}, which {name} names.")
        return files

    def _read_shapes(self, file: str) -> dict[str, tuple[int, ...]]:
        if file.endswith(".bin"):
            return self._load_bin(file).shapes
        try:
            with safe_open(self.folder / file, framework="pt") as tensors:
                return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118 (it is no dict)
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{self.folder / file} is damaged or cut short ({error}).") from None

    def _load_bin(self, file: str) -> TorchTensors:
        if self._loaded is None or self._loaded[0] != file:
            self._loaded = file, TorchTensors(self.folder / file, load_torch(self.folder / file))
        return self._loaded[1]


def write_safetensors(
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    make: Callable[[str], torch.Tensor],
    max_shard_size: str = "500MB",
) -> None:
    """
    Writes `make(name)` for every name of `shapes` as `model.safetensors`, or as shards of at most `max_shard_size`, of
    which two are in memory: one is made while the one before it is written.
    """
    plan = split_torch_state_dict_into_shards(
        {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()},
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )

    def save(file: str, tensors: dict[str, torch.Tensor]) -> None:
        try:
            save_file(tensors, folder / file, metadata={"format": "pt"})
        except SafetensorError as error:  # the disk is full, for one
            raise InputError(f"{file} could not be written ({error}).") from None

    with ThreadPoolExecutor(max_workers=1) as writer:
        saved = None
        for file, names in plan.filename_to_tensors.items():
            tensors = {name: make(name) for name in names}
            if saved is not None:
                saved.result()
            saved = writer.submit(save, file, tensors)
            del tensors
        if saved is not None:
            saved.result()
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
