"""
A state dict with GPT-2's names and nothing beside it: nanoGPT's or minGPT's, or that of stock transformers.

Source: nanoGPT's and minGPT's `model.py`; transformers' `modeling_gpt2.py`. All spell `transformer.h.{i}.attn.c_attn`.
In the first two its matrix is nn.Linear's, `(3C, C)`, in stock GPT-2 it is `(C, 3C)`. minGPT does not tie its output
head and has the tanh GELU, as stock GPT-2; nanoGPT ties it, has had the exact GELU since July 2023, and may leave
all biases out. The shapes tell all but the number of heads and the GELU, and of stock GPT-2 what its attention scores
are divided by, which its configuration says.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.activations import ACT2FN

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError, UsageError
from . import hf_gpt2
from .characters import characters_beside
from .choices import ATTENTION_SCALES
from .key_map import expand
from .nanogpt import ARITHMETIC, EMBEDDINGS, TABLE, cut_vocabulary
from .source import Renamed, Source, Tensors, check_depth, key_of_names, make_config
from .state_dict import HEAD, find_weights, names_in, number_of_heads, open_weights, tie_head

NAME = "GPT-2 state dict"
C_ATTN = "transformer.h.0.attn.c_attn.weight"
C_FC = "transformer.h.0.mlp.c_fc.weight"


def accepts(path: Path, content: object) -> bool:
    """Whether the file holds the first block's attention by GPT-2's name."""
    return any(hf_gpt2.normalize_key(name, "GPT2LMHeadModel") == C_ATTN for name in names_in(content))


def open_source(
    path: Path,
    content: Any,
    n_head: int | None = None,
    activation: str | None = None,
    vocab_size: int | None = None,
    attention_scale: str | None = None,
) -> Source:
    """
    Opens a state dict, given what its file holds.

    Args:
        n_head: the number of attention heads, which it does not hold; by default one for every 64 dimensions.
        activation: "gelu" or "gelu_new", which it does not hold either; by default nanoGPT's exact one where the
            matrices are nn.Linear's and the output head is tied, else the tanh form.
        vocab_size: cuts a vocabulary that was rounded up.
        attention_scale: of stock GPT-2, what attention scores are divided by: "root", which is assumed, the square
            root of a head's width; "root-and-layer", also the number of the block (`scale_attn_by_inverse_layer_idx`);
            "none", nothing (`scale_attn_weights=False`).

    Raises:
        UsageError: when the width fits no default number of heads, or `attention_scale` is given of another GPT.
        InputError: when the tensors do not belong to one GPT, or the vocabulary is smaller than `vocab_size`.
    """
    tensors = open_weights(path, find_weights(content))
    key_of = key_of_names(tensors.shapes, lambda key: hf_gpt2.normalize_key(key, "GPT2LMHeadModel"))
    tied = tie_head(tensors, key_of, EMBEDDINGS)
    tensors = Renamed(tensors, key_of)
    for name in (EMBEDDINGS, "transformer.wpe.weight", C_ATTN, C_FC):
        if len(tensors.shapes.get(name, ())) != 2:
            raise InputError(f"{path} lacks the matrix {name}, which every GPT-2 has.")
    is_stock = tensors.shapes[C_ATTN][0] == tensors.shapes[EMBEDDINGS][1]
    activation = activation or ("gelu" if tied and not is_stock else "gelu_new")
    config = _config(path, tensors, is_stock, n_head, activation)
    config.tie_word_embeddings = tied
    assumed = {"n_head": config.n_head, **_scale_attention(path, config, is_stock, attention_scale)}
    if vocab_size is not None:
        tensors, config.vocab_size = cut_vocabulary(path, tensors, config.vocab_size, vocab_size), vocab_size
    table = hf_gpt2.key_map("GPT2LMHeadModel", config.n_layer, tied)
    if not is_stock:
        table = expand(TABLE, config.n_layer) + ([] if tied else [hf_gpt2.LM_HEAD])
    key_map = table if config.qkv_bias else [row for row in table if not row.theirs.endswith(".bias")]
    return Source(
        format=f"stock {NAME}" if is_stock else f"nanoGPT or minGPT {NAME.removeprefix('GPT-2 ')}",
        config=config,
        architecture="GPTScratchForCausalLM",
        key_map=key_map,
        tensors=tensors,
        arithmetic=replace(
            ARITHMETIC,
            in_out=is_stock,
            head=EMBEDDINGS if tied else HEAD,
            activation=ACT2FN[activation],
            divides_by_root=config.scale_attn_weights,
            divides_by_layer=config.scale_attn_by_inverse_layer_idx,
        ),
        files=[path],
        tokenizer=characters_beside(path, config),
        zeros=frozenset(name for row in table if row not in key_map for name in row.ours),
        assumed=assumed | {"activation": activation},
    )


def _scale_attention(path: Path, config: GPTScratchConfig, is_stock: bool, scale: str | None) -> dict[str, str]:
    """Tells the configuration what attention scores are divided by; returns what that assumes."""
    if not is_stock:
        if scale is not None:
            raise UsageError(
                f"--attention-scale does not apply to {path}, whose matrices are nanoGPT's or minGPT's: they have one"
                " scale."
            )
        return {}
    scale = scale or ATTENTION_SCALES[0]
    config.scale_attn_weights, config.scale_attn_by_inverse_layer_idx = scale != "none", scale == "root-and-layer"
    return {"attention_scale": scale}


def _config(path: Path, tensors: Tensors, is_stock: bool, n_head: int | None, activation: str) -> GPTScratchConfig:
    """The configuration that follows from the tensors' shapes."""
    shapes = tensors.shapes
    vocab_size, n_embd = shapes[EMBEDDINGS]
    n_layer = 1 + max(int(found[1]) for name in shapes if (found := re.match(r"transformer\.h\.(\d{1,6})\.", name)))
    check_depth(path, n_layer, tensors)
    return make_config(
        path,
        vocab_size=vocab_size,
        n_positions=shapes["transformer.wpe.weight"][0],
        n_embd=n_embd,
        n_layer=n_layer,
        n_head=number_of_heads(path, n_embd, n_head),
        n_inner=shapes[C_FC][1 if is_stock else 0],
        qkv_bias=any(name.endswith(".bias") for name in shapes),
        activation_function=activation,
    )
