"""An ONNX file, run by onnxruntime: torch tensors in and out, which share their memory with it."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..utils.errors import InputError, damage_told, one_line
from ..utils.requirements import import_onnxruntime

INPUTS = {"input_ids", "attention_mask", "position_ids"}
PAST, PRESENT = "past_key_values.{}.{}", "present.{}.{}"  # of each block its keys and its values
KINDS = ("key", "value")
ELEMENTS = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64}


class Graph:
    """
    An ONNX file of this package, on the CPU, in as many threads as torch has.

    Attributes:
        n_layer: how many blocks it has.
        outputs: the names of its outputs.

    Raises:
        InputError: when onnxruntime is not installed or cannot read the file, or its inputs are others.
    """

    def __init__(self, path: Path):
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; warnings are about what its optimizer does
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has one for each way in which a file is damaged
            raise InputError(
                f"{path} cannot be loaded by onnxruntime ({one_line(error)}); export the model again."
            ) from None
        self._path = path
        self._elements = {one.name: ELEMENTS.get(one.type) for one in self._session.get_inputs()}
        self.outputs = [one.name for one in self._session.get_outputs()]
        self.n_layer = sum(name.startswith("present.") for name in self.outputs) // 2
        past = {PAST.format(i, kind) for i in range(self.n_layer) for kind in KINDS}
        if self._elements.keys() != INPUTS | past or None in self._elements.values() or "logits" not in self.outputs:
            raise InputError(f"{path} has other inputs and outputs than `hf-gpt-scratch export --to onnx` writes.")
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True  # without the output head where no scores are asked for

    def run(
        self, inputs: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, torch.Tensor]:
        """
        The outputs whose names and shapes are given, new float32 tensors.

        Args:
            inputs: all of them, by their names.
        """
        inputs = {name: tensor.to(self._elements[name]).contiguous() for name, tensor in inputs.items()}
        found = {name: torch.empty(shape) for name, shape in shapes.items()}
        binding = self._session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_input(name, "cpu", 0, _numpy_type(tensor), tuple(tensor.shape), _address(tensor))
        for name, tensor in found.items():
            binding.bind_output(name, "cpu", 0, _numpy_type(tensor), tuple(tensor.shape), tensor.data_ptr())
        with damage_told(f"{self._path} and the config.json of its folder do not fit; export the model again ({{}})."):
            self._session.run_with_iobinding(binding, self._run_options)
        return found


def _numpy_type(tensor: torch.Tensor):
    import numpy as np

    return np.int64 if tensor.dtype == torch.int64 else np.float32


_NOTHING = torch.zeros(1)


def _address(tensor: torch.Tensor) -> int:
    """Where its numbers lie; an empty tensor has no place of its own."""
    return tensor.data_ptr() or _NOTHING.data_ptr()
