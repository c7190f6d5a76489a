"""
Reading a file of torch.save from anyone: tensors and plain values alone, and no more of them than it holds. An object
of a class, such as a configuration, becomes an inert record of its attributes.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..utils.errors import InputError
from .inert_pickle import load_archive


def is_torch(path: Path) -> bool:
    """Whether it begins as a file of torch.save does: a zip archive or, before torch 1.6, a pickle."""
    with open(path, "rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def load_torch(path: Path) -> Any:
    """
    What the file holds, its tensors mapped from disk rather than read where the format allows it.

    Raises:
        InputError: when it holds anything but tensors, plain values and plain objects, or is damaged, cut short or
            compressed.
    """
    if not is_torch(path):
        raise InputError(f"{path} is not a PyTorch checkpoint (a file that torch.save wrote).")
    try:
        _refuse_compressed(path)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError):  # files of torch before 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError:
        return _load_inert(path)
    except Exception as error:  # a damaged file makes the unpickler stumble in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged or cut short ({reason}).") from None


def _load_inert(path: Path) -> Any:
    """What torch's reader of weights refused, where all that it holds besides are objects without code."""
    try:
        return load_archive(path)
    except Exception:  # a damaged archive makes its reader stumble in any way
        raise InputError(
            f"{path} holds more than tensors, or is damaged; it was not loaded. Save the weights alone, with"
            " torch.save(model.state_dict(), file)."
        ) from None


def _refuse_compressed(path: Path) -> None:
    # torch stores its tensors as they are; a compressed file could grow without end while it is read.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise InputError(f"{path} is compressed, which torch.save never does; it was not loaded.")


# Weights, and the masks saved among them
PLAIN = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8}


class TorchTensors:
    """The tensors of a state dict by name, and their shapes; raises `InputError` where it is none, naming `path`."""

    def __init__(self, path: Path, state_dict: Any):
        if not isinstance(state_dict, Mapping) or not state_dict:
            raise InputError(f"{path} is not a mapping from names to tensors.")
        for name, tensor in state_dict.items():
            if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
                raise InputError(f"{path} is not a mapping from names to tensors.")
            kind = (tensor.is_nested, tensor.is_quantized, tensor.device.type, tensor.dtype in PLAIN)
            if kind != (False, False, "cpu", True) or tensor.layout != torch.strided:
                raise InputError(f"{name} in {path} is not a dense tensor of numbers.")
            if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
                raise InputError(f"{name} in {path} claims the shape {list(tensor.shape)}, but holds less.")
        # A tied output head is there twice; more than that is a small file that would become a large model.
        if sum(tensor.nbytes for tensor in state_dict.values()) > 2 * path.stat().st_size:
            raise InputError(f"The tensors in {path} overlap each other, so that they claim more than the file holds.")
        self.shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in state_dict.items()}
        self._state_dict = state_dict

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._state_dict[name].detach()  # files may hold Parameters
