"""This package's model as stock GPT-2, tensor by tensor."""

import os
from functools import reduce
from pathlib import Path

import torch

from ..model_folder.contents import resolve_source
from ..utils.errors import InputError
from ..utils.files import atomic_folder
from . import hf_gpt2
from .checkpoint import Checkpoint
from .generation_settings import generation_config
from .key_map import KeyMapping
from .native import NativeModel, check_finite, open_native
from .safetensors_file import write_safetensors
from .tokenizers import copy_tokenizer


def export(src: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """
    The way back: a folder of this package's model as stock GPT-2. Without qkv biases, theirs are zeros.

    Args:
        src: a folder of this package's model, or a Hub repository of one.
        out: the folder to make, which is returned; it must not exist yet.

    Raises:
        InputError: when `src` is not such a folder, or its keys or shapes are not those its config asks for.

    Examples:
        >>> from hf_gpt_scratch import export
        >>> export("runs/small", "runs/stock")  # doctest: +SKIP
        PosixPath('runs/stock')
        >>> from transformers import GPT2LMHeadModel
        >>> model = GPT2LMHeadModel.from_pretrained("runs/stock")  # doctest: +SKIP
    """
    folder = resolve_source(str(src))
    native = open_native(folder, tuple(hf_gpt2.ARCHITECTURES.values()), "stock GPT-2")
    architecture = next(theirs for theirs, name in hf_gpt2.ARCHITECTURES.items() if name == native.architecture)
    key_map = hf_gpt2.key_map(architecture, native.config.n_layer, native.config.tie_word_embeddings)
    tensors = _ExportedTensors(folder, native, key_map)
    # A tied language model's names are openai-community/gpt2's, without the prefix: MLX reads no others.
    is_bare = architecture == "GPT2LMHeadModel" and native.config.tie_word_embeddings
    row_of = {row.theirs.removeprefix("transformer.") if is_bare else row.theirs: row for row in key_map}
    with atomic_folder(out) as partial:
        write_safetensors(
            partial,
            {name: tensors.layout(row) for name, row in row_of.items()},
            lambda name: row_of[name].to_theirs(tensors[part] for part in row_of[name].ours),
        )
        hf_gpt2.config_to_stock(native.config, architecture).save_pretrained(partial)
        _check_way_back(partial, tensors)
        if architecture == "GPT2LMHeadModel":
            generation_config(folder, native.config).save_pretrained(partial)
        copy_tokenizer(folder, partial, native.config.n_positions)
    return Path(out)


class _ExportedTensors:
    """Our tensors as stock GPT-2 has them: with zeros for biases that we lack, and a classifier's bias moved."""

    def __init__(self, folder: Path, native: NativeModel, key_map: list[KeyMapping]):
        self._folder, self._checkpoint = folder, native.checkpoint
        # What the table asks for and a model without qkv biases lacks
        asked = (name for row in key_map for name in row.ours)
        self._zeros = {name: (native.config.n_embd,) for name in asked if name not in native.checkpoint.shapes}
        self.shapes = {**native.checkpoint.shapes, **self._zeros}
        dtypes = {name: dtype for name, dtype in native.checkpoint.dtypes.items() if dtype is not None}
        self._dtypes = dtypes | {name: dtypes[name.removesuffix("bias") + "weight"] for name in self._zeros}
        classifier = native.architecture == "GPTScratchForSequenceClassification"
        self._moves_bias = classifier and native.config.classifier_bias

    def __getitem__(self, name: str) -> torch.Tensor:
        if self._moves_bias and name == "transformer.ln_f.bias":
            return _with_classifier_bias(self._checkpoint)
        if name in self._zeros:
            return torch.zeros(self._zeros[name], dtype=self._dtypes[name])
        return check_finite(self._checkpoint[name], f"{name} in {self._folder}")

    def layout(self, row: KeyMapping) -> torch.Tensor:
        """Their tensor of this row, without memory."""
        dtype = reduce(torch.promote_types, (self._dtypes[name] for name in row.ours))
        return torch.empty(row.their_shape(self.shapes[name] for name in row.ours), dtype=dtype, device="meta")


def _check_way_back(folder: Path, tensors: _ExportedTensors) -> None:
    """Raises `InputError` unless the exported folder, read back, holds our tensors bit for bit."""
    source, names = hf_gpt2.open_source(folder), set(tensors.shapes)
    for row in source.key_map:
        for name, tensor in row.to_ours(source.tensors[row.theirs]).items():
            if not torch.equal(tensor, tensors[name]):
                raise InputError(f"{name} did not survive the export; nothing was written.")
            names.discard(name)
    if names - {"score.bias"}:  # which went into the final LayerNorm's bias
        raise InputError(f"The export lacks {', '.join(sorted(names))}; nothing was written.")


def _with_classifier_bias(checkpoint: Checkpoint) -> torch.Tensor:
    """The final LayerNorm's bias such that the head, which in stock GPT-2 has no bias, adds its own all the same."""
    bias, weight = checkpoint["transformer.ln_f.bias"], checkpoint["score.weight"].double()  # (C,), (num_labels, C)
    wanted = checkpoint["score.bias"].double()
    added = torch.linalg.lstsq(weight, wanted, driver="gelsd").solution
    if not torch.allclose(weight @ added, wanted, atol=1e-6):
        raise InputError("The classifier's bias cannot be expressed in stock GPT-2, whose head has none.")
    return bias + added.to(bias.dtype)
