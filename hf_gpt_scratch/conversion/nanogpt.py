"""
nanoGPT's `ckpt.pt`: weights under `model`, the shape of the model under `model_args`. build-nanogpt's checkpoints are
the same but for `config`, an object of its class GPTConfig, in the place of `model_args`, and the tanh GELU.

Source: nanoGPT's `model.py` and `train.py`. Its linear layers are nn.Linear's; query, key and value are one matrix;
the output head is the token embeddings; the GELU is the exact one, before July 2023 the tanh form. With `bias=False`
neither linear layers nor LayerNorms add anything. The vocabulary is often rounded up to 50304, of which the tokens
from 50257 on never occur.
"""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers.activations import ACT2FN

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError
from . import hf_gpt2
from .characters import characters_beside
from .inert_pickle import Record
from .key_map import expand
from .source import Renamed, Source, Tensors, check_depth, key_of_names, make_config, weight_name
from .state_dict import HEAD, tie_head
from .torch_file import TorchTensors

NAME = "nanoGPT checkpoint"

# The names are those of stock GPT-2; the matrices are not transposed.
TABLE = tuple(replace(row, transpose=False).with_prefix("transformer.") for row in hf_gpt2.BASE)
EMBEDDINGS = "transformer.wte.weight"
ARITHMETIC = replace(hf_gpt2.ARITHMETIC.with_prefix("transformer."), in_out=False, head=EMBEDDINGS)
MASK = re.compile(r"transformer\.h\.\d+\.attn\.bias")  # saved where flash attention was missing


def accepts(path: Path, content: object) -> bool:
    """Whether the file holds weights and `model_args`, or an object with the configuration."""
    has_settings = isinstance(content, dict) and ("model_args" in content or _has_object(content))
    return has_settings and "model" in content


def _has_object(content: dict) -> bool:
    return isinstance(content.get("config"), Record)


def open_source(path: Path, content: dict, vocab_size: int | None = None, activation: str | None = None) -> Source:
    """
    Opens a checkpoint, given what its file holds.

    Args:
        vocab_size: cuts a vocabulary that was rounded up.
        activation: "gelu", or "gelu_new" for files of nanoGPT before July 2023, which look the same; by default
            "gelu" of nanoGPT's, "gelu_new" of build-nanogpt's.

    Raises:
        InputError: when the settings are missing, or the vocabulary is smaller than `vocab_size`.
    """
    is_nanogpt = "model_args" in content
    activation = activation or ("gelu" if is_nanogpt else "gelu_new")
    config = _config(path, content, activation)
    tensors = TorchTensors(path, content["model"])
    check_depth(path, config.n_layer, tensors)
    key_of = key_of_names(tensors.shapes, partial(weight_name, mask=MASK))
    if not tie_head(tensors, key_of, EMBEDDINGS):
        raise InputError(f"lm_head.weight and {EMBEDDINGS} differ in {path}, but nanoGPT ties them.")
    named: Tensors = Renamed(tensors, key_of)
    if vocab_size is not None:
        named, config.vocab_size = cut_vocabulary(path, named, config.vocab_size, vocab_size), vocab_size
    table = expand(TABLE, config.n_layer)
    key_map = table if config.qkv_bias else [row for row in table if not row.theirs.endswith(".bias")]
    return Source(
        format=NAME if is_nanogpt else f"build-{NAME}",
        config=config,
        architecture="GPTScratchForCausalLM",
        key_map=key_map,
        tensors=named,
        arithmetic=replace(ARITHMETIC, activation=ACT2FN[activation]),
        files=[path],
        tokenizer=characters_beside(path, config),
        zeros=frozenset(name for row in table if row not in key_map for name in row.ours),
        assumed={"activation": activation},
    )


def _config(path: Path, content: dict, activation: str) -> GPTScratchConfig:
    """The `model_args`, or the `config`, as our configuration."""
    kind = "model_args" if "model_args" in content else "config"
    settings: Any = content[kind] if kind == "model_args" else content[kind].state
    names = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
    if not isinstance(settings, dict) or any(type(settings.get(name)) is not int for name in names):
        raise InputError(f"The {kind} in {path} must hold whole numbers for {', '.join(names)}.")
    return make_config(
        path,
        vocab_size=settings["vocab_size"],
        n_positions=settings["block_size"],
        n_embd=settings["n_embd"],
        n_layer=settings["n_layer"],
        n_head=settings["n_head"],
        qkv_bias=bool(settings.get("bias", True)),
        activation_function=activation,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.get("dropout", 0.0)),
    )


def cut_vocabulary(path: Path, tensors: Tensors, size: int, wanted: int) -> "CutVocabulary":
    """The tensors of a model of `size` tokens, of which the first `wanted` are left; raises `InputError` for more."""
    if wanted > size:
        raise InputError(f"{path} has a vocabulary of {size}, which cannot be cut to {wanted}.")
    return CutVocabulary(tensors, wanted)


class CutVocabulary:
    """Tensors whose token embeddings, and output head where there is one, end after the first `size` tokens."""

    def __init__(self, tensors: Tensors, size: int):
        cut = {name: (size, *tensors.shapes[name][1:]) for name in (EMBEDDINGS, HEAD) if name in tensors.shapes}
        self.shapes = {**tensors.shapes, **cut}
        self.dtypes, self._tensors, self._cut = tensors.dtypes, tensors, cut

    def __getitem__(self, name: str):
        tensor = self._tensors[name]
        return tensor[: self._cut[name][0]] if name in self._cut else tensor
