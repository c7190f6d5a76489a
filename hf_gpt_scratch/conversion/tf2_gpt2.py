"""
TFGPT2 of transformers before version 5: a model folder whose weights are `tf_model.h5`, read by h5py alone.

Source: transformers' `models/gpt2/modeling_tf_gpt2.py` and `modeling_tf_utils.py`. Keras saves a dataset for each
variable, under a path such as `transformer/tfgp_t2lm_head_model/transformer/h_._0/attn/c_attn/weight:0`, whose first
parts depend on the version. The matrices are those of stock GPT-2, biases of linear layers have the shape `(1, out)`,
and the head of a classifier is a Dense layer, `(in, out)`. A language model's head is always its token embeddings.
"""

import math
import re
from pathlib import Path

import numpy as np
import torch

from ..utils.errors import InputError, one_line
from ..utils.requirements import require_package
from . import hf_gpt2
from .file_kinds import is_model_folder_with
from .source import Renamed, Source, key_of_names

NAME = "TensorFlow 2 GPT-2 of transformers"
FILE = "tf_model.h5"
DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
PARTS = {"gamma": "weight", "beta": "bias", "embeddings": "weight", "kernel": "weight"}
HEAD = re.compile(r"(score|classifier)\.weight")


def accepts(path: Path, content: object) -> bool:
    """Whether it is a model folder with `tf_model.h5`, and without weights of torch."""
    return is_model_folder_with(path, FILE)


def open_source(folder: Path, content: None = None, as_: str | None = None) -> Source:
    """
    Opens a model folder, with `as_` (one of `hf_gpt2.AS`) as the class of that name.

    Raises:
        InputError: when h5py is not installed, the file is damaged or holds other names, or the model is not one that
            `hf_gpt2.open_source` takes.
    """
    datasets = Datasets(folder / FILE)
    tensors = Renamed(datasets, key_of_names(datasets.shapes, stock_name))
    return hf_gpt2.source_of(folder, tensors, [folder / FILE], NAME, as_=as_)


def stock_name(path: str) -> str:
    """The name in stock GPT-2 of the variable at a path."""
    parts = path.split(":")[0].replace("h_._", "h/").split("/")
    start = len(parts) - 1 - parts[::-1].index("transformer") if "transformer" in parts else len(parts) - 2
    *names, last = parts[max(0, start) :]
    return ".".join([*names, PARTS.get(last, last)])


class Datasets:
    """
    The arrays of an HDF5 file by their paths, each read when it is asked for; a bias of shape `(1, out)` as `(out,)`,
    a head as `(out, in)`.

    Raises:
        InputError: when h5py is not installed, the file is damaged, or its arrays are larger than itself or elsewhere.
    """

    def __init__(self, path: Path):
        require_package("h5py", "convert", f"Reading {path}")
        import h5py

        self._path, self._arrays = path, {}
        try:
            self._file = h5py.File(path, "r", locking=False)
            self._file.visititems(self._add)  # which follows no link out of the file
            self._check_sizes()
            self.shapes = {name: self._shape(name, array.shape) for name, array in self._arrays.items()}
            self.dtypes = {name: DTYPES.get(array.dtype.name) for name, array in self._arrays.items()}
        except InputError:
            raise
        except Exception as error:  # of HDF5, which stumbles over a damaged file in any way
            raise self._damaged(error) from None

    def _add(self, name: str, entry: object) -> None:
        import h5py

        if isinstance(entry, h5py.Dataset):
            self._arrays[name] = entry

    def _check_sizes(self) -> None:
        size = sum(math.prod(array.shape) * array.dtype.itemsize for array in self._arrays.values())
        if size > self._path.stat().st_size:
            raise InputError(f"The arrays in {self._path} claim more than the file holds.")
        if any(array.is_virtual or array.external for array in self._arrays.values()):
            raise InputError(f"{self._path} keeps arrays in other files; they are not read.")

    @staticmethod
    def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) == 2 and shape[0] == 1 and name.endswith("bias:0"):
            return shape[1:]
        return shape[::-1] if HEAD.fullmatch(stock_name(name)) else shape

    def __getitem__(self, name: str) -> torch.Tensor:
        try:
            values = np.asarray(self._arrays[name][()])
        except Exception as error:
            raise self._damaged(error) from None
        tensor = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
        return tensor.t() if HEAD.fullmatch(stock_name(name)) else tensor.reshape(self.shapes[name])

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self._path} is damaged or cut short ({one_line(error)}).")
