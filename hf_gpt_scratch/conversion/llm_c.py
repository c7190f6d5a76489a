"""
llm.c's checkpoints, such as `gpt2_124M.bin` and `model_00019560.bin`: sizes in a header, then the weights and nothing
else.

Source: llm.c's `train_gpt2.py` (`write_model`) and `train_gpt2.cu` (`gpt2_build_from_checkpoint`). The header is 256
whole numbers; the parameters follow, each for all blocks at once, as float32 or bfloat16. Linear layers are
nn.Linear's; query, key and value are one matrix; the GELU is the tanh form; the output head is the token embeddings,
whose vocabulary is rounded up to a multiple of 128 by tokens that never occur.
"""

import math
import struct
from pathlib import Path

import numpy as np
import torch

from ..utils.errors import InputError
from .independent_forward import Arithmetic
from .key_map import QKV, KeyMapping, expand
from .source import Source, make_config

NAME = "llm.c checkpoint"
HEADER = struct.Struct("<256i")
MAGIC = 20240326
DTYPES = {3: torch.float32, 5: torch.bfloat16}  # by the version
# Other files that llm.c writes, by their first number
OTHERS = {
    20240327: "the state that llm.c's tests compare with",
    20240328: "a tokenizer of llm.c",
    20240520: "training tokens of llm.c",
    20240522: "questions of an evaluation of llm.c",
    20240527: "the optimizer's state of llm.c; the weights are in the model_*.bin beside it",
    20240801: "training tokens of llm.c for Llama 3",
    20240803: "a Llama 3 of llm.c, which is no GPT-2",
}

# The names are those of llm.c's ParameterTensors; here each block's part of one is a tensor.
BLOCK = {
    "ln1": ("ln_1",),
    "qkv": tuple(f"attn.{name}" for name in QKV),
    "attproj": ("attn.o_proj",),
    "ln2": ("ln_2",),
    "fc": ("mlp.fc_in",),
    "fcproj": ("mlp.fc_out",),
}
TABLE = (
    KeyMapping("wte", ("transformer.wte.weight",)),
    KeyMapping("wpe", ("transformer.wpe.weight",)),
    *(
        KeyMapping(f"{theirs}.{{i}}.{letter}", tuple(f"transformer.h.{{i}}.{name}.{part}" for name in ours))
        for theirs, ours in BLOCK.items()
        for letter, part in (("w", "weight"), ("b", "bias"))
    ),
    KeyMapping("lnf.w", ("transformer.ln_f.weight",)),
    KeyMapping("lnf.b", ("transformer.ln_f.bias",)),
)
ARITHMETIC = Arithmetic(
    token_embedding="wte",
    position_embedding="wpe",
    attention_norm="ln1.{i}",
    query_key_value=("qkv.{i}",),
    attention_output="attproj.{i}",
    mlp_norm="ln2.{i}",
    mlp_in="fc.{i}",
    mlp_out="fcproj.{i}",
    final_norm="lnf",
    head="wte",
    norm=("w", "b"),
    linear=("w", "b"),
)


def accepts(path: Path, content: object) -> bool:
    """Whether it is a file that begins with one of llm.c's numbers."""
    return path.is_file() and _first_number(path) in (MAGIC, *OTHERS)


def _first_number(path: Path) -> int:
    with open(path, "rb") as file:
        return int.from_bytes(file.read(4), "little")


def open_source(path: Path, content: None = None) -> Source:
    """
    Opens a checkpoint, its vocabulary without the tokens that round it up.

    Raises:
        InputError: when it is another of llm.c's files, of another version, or not as long as its header says.
    """
    if (what := OTHERS.get(_first_number(path))) is not None:
        raise InputError(f"{path} is {what}.")
    with open(path, "rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise InputError(f"{path} is damaged or cut short (it ends within its header).")
    _, version, n_positions, vocab_size, n_layer, n_head, n_embd, padded, *_ = HEADER.unpack(header)
    if version not in DTYPES:
        raise InputError(
            f"{path} is of llm.c's version {version}, but only 3 (float32) and 5 (bfloat16) can be converted: write it"
            " again with a newer llm.c."
        )
    sizes = {"vocab_size": vocab_size, "n_positions": n_positions, "n_embd": n_embd, "n_layer": n_layer}
    if min(*sizes.values(), n_head) < 1 or padded < vocab_size:
        raise InputError(f"{path} does not describe a GPT: a size in its header is below 1, or its vocabulary is cut.")
    _check_length(path, _stored_shapes(padded, n_positions, n_embd), n_layer, DTYPES[version])
    return Source(
        format=NAME,
        config=make_config(path, **sizes, n_head=n_head),
        architecture="GPTScratchForCausalLM",
        key_map=expand(TABLE, n_layer),
        tensors=Parameters(path, _stored_shapes(padded, n_positions, n_embd), n_layer, vocab_size, DTYPES[version]),
        arithmetic=ARITHMETIC,
        files=[path],
    )


def _stored_shapes(padded: int, n_positions: int, width: int) -> dict[str, tuple[int, ...]]:
    """The parameters in the file's order, and their shapes; for those of blocks, the shape of one block's part."""
    blocks = {"ln1": (width,), "qkv": (3 * width, width), "attproj": (width, width)}
    blocks |= {"ln2": (width,), "fc": (4 * width, width), "fcproj": (width, 4 * width)}
    shapes = {"wte": (padded, width), "wpe": (n_positions, width)}
    for name, shape in blocks.items():
        shapes |= {f"{name}.{{i}}.w": shape, f"{name}.{{i}}.b": shape[:1]}
    return shapes | {"lnf.w": (width,), "lnf.b": (width,)}


def _check_length(path: Path, shapes: dict[str, tuple[int, ...]], n_layer: int, dtype: torch.dtype) -> None:
    count = sum(math.prod(shape) * (n_layer if "{i}" in name else 1) for name, shape in shapes.items())
    expected, found = HEADER.size + count * dtype.itemsize, path.stat().st_size
    if expected != found:
        raise InputError(
            f"{path} is damaged or cut short: by its header it has {expected} bytes of {dtype}, but it has {found}."
        )


class Parameters:
    """
    The tensors of a checkpoint by name, each mapped from disk when it is asked for; the token embeddings without the
    rows after the first `vocab_size`. The file has the length that `shapes` ask for.
    """

    def __init__(
        self,
        path: Path,
        shapes: dict[str, tuple[int, ...]],
        n_layer: int,
        vocab_size: int,
        dtype: torch.dtype,
    ):
        self._path, self._starts, start = path, {}, HEADER.size
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            for i in range(n_layer if "{i}" in name else 1):
                self.shapes[name.format(i=i)], self._starts[name.format(i=i)] = shape, start
                start += math.prod(shape) * dtype.itemsize
        self.shapes["wte"] = (vocab_size, *self.shapes["wte"][1:])
        self.dtypes = dict.fromkeys(self.shapes, dtype)

    def __getitem__(self, name: str) -> torch.Tensor:
        shape, dtype = self.shapes[name], self.dtypes[name]
        raw = np.dtype("<i2" if dtype == torch.bfloat16 else "<f4")  # NumPy has no bfloat16
        # "c" (copy on write), as torch warns of tensors that cannot be written to
        values = np.memmap(self._path, raw, "c", self._starts[name], shape)
        return torch.from_numpy(values).view(dtype)
