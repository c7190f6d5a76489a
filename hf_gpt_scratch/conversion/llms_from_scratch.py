"""
The weights of "Build a Large Language Model (From Scratch)": a bare state dict, or one under `model_state_dict`.

Source: LLMs-from-scratch, chapters 4 to 7 and appendix E. Separate query, key and value matrices, with or without a
bias; an output head of its own, which chapter 6 replaces by one of two classes, with a bias; linear layers that
appendix E wraps for LoRA, as `linear` plus a multiple of `lora.A @ lora.B`. Its faster variants (`GPTModelFast`) join
query, key and value in one matrix, `qkv`, call the projection after it `proj`, and take torch's LayerNorm, with
`weight` and `bias` for `scale` and `shift`. Chapter 4's variant with sliding-window attention (ch04/06_swa) has the
same keys and shapes as those whose causal mask is not saved: only a saved mask tells that there is no window.
"""

import re
from pathlib import Path

import torch

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError, UsageError
from .independent_forward import Arithmetic
from .key_map import QKV, KeyMapping, expand
from .source import (
    MissingOption,
    Renamed,
    Source,
    Tensors,
    check_depth,
    key_of_names,
    make_config,
    strip_wrappers,
    weight_name,
)
from .state_dict import find_weights, names_in, number_of_heads, open_weights

NAME = "LLMs-from-scratch state dict"

QKV_NAMES = {"W_query": "q_proj", "W_key": "k_proj", "W_value": "v_proj"}
LINEARS = {
    **{f"att.{theirs}": (f"attn.{ours}",) for theirs, ours in QKV_NAMES.items()},
    "att.qkv": tuple(f"attn.{ours}" for ours in QKV),
    "att.out_proj": ("attn.o_proj",),
    "ff.layers.0": ("mlp.fc_in",),
    "ff.layers.2": ("mlp.fc_out",),
}
TABLE = (
    KeyMapping("tok_emb.weight", ("transformer.wte.weight",)),
    KeyMapping("pos_emb.weight", ("transformer.wpe.weight",)),
    *(
        KeyMapping(f"trf_blocks.{{i}}.{theirs}.{part}", tuple(f"transformer.h.{{i}}.{name}.{part}" for name in ours))
        for theirs, ours in LINEARS.items()
        for part in ("weight", "bias")
    ),
    *(
        KeyMapping(f"trf_blocks.{{i}}.norm{n}.{theirs}", (f"transformer.h.{{i}}.ln_{n}.{ours}",))
        for n in (1, 2)
        for theirs, ours in (("scale", "weight"), ("shift", "bias"))
    ),
    KeyMapping("final_norm.scale", ("transformer.ln_f.weight",)),
    KeyMapping("final_norm.shift", ("transformer.ln_f.bias",)),
)
ARITHMETIC = {
    "token_embedding": "tok_emb.weight",
    "position_embedding": "pos_emb.weight",
    "attention_norm": "trf_blocks.{i}.norm1",
    "attention_output": "trf_blocks.{i}.att.out_proj",
    "mlp_norm": "trf_blocks.{i}.norm2",
    "mlp_in": "trf_blocks.{i}.ff.layers.0",
    "mlp_out": "trf_blocks.{i}.ff.layers.2",
    "final_norm": "final_norm",
    "norm": ("scale", "shift"),
}
LORA = re.compile(r"\.lora\.[AB]$")
MASK = re.compile(r"trf_blocks\.\d+\.att\.mask")
WINDOW_STRIDE = 2  # of ch04/06_swa: two blocks with a window, then one without
FUSED = "trf_blocks.0.att.qkv.weight"
# The names of the faster variants that differ from the others', by what they end in
FAST = (
    (re.compile(r"(trf_blocks\.\d+\.norm[12]|final_norm)\.weight$"), r"\1.scale"),
    (re.compile(r"(trf_blocks\.\d+\.norm[12]|final_norm)\.bias$"), r"\1.shift"),
    (re.compile(r"(trf_blocks\.\d+\.att)\.proj\."), r"\1.out_proj."),
)


def accepts(path: Path, content: object) -> bool:
    """Whether the file holds the book's token embeddings, or its blocks."""
    return any("tok_emb." in name or "trf_blocks." in name for name in names_in(content))


def open_source(
    path: Path,
    content: dict,
    n_head: int | None = None,
    lora_scale: float | None = None,
    labels: str | None = None,
    window: int | None = None,
    window_stride: int | None = None,
) -> Source:
    """
    Opens a checkpoint, given what its file holds.

    Args:
        n_head: the number of attention heads, which the file does not hold; by default one for every 64 dimensions.
        lora_scale: what LoRA's `A @ B` is multiplied by, which it does not hold either: alpha in the book's first
            editions, alpha / rank in later code.
        labels: the classes of a classifier, in order, with commas between them.
        window: how many tokens a token looks at, itself included, in the blocks with sliding-window attention; 0 for
            all, which is assumed.
        window_stride: so many blocks with a window are followed by one without; 0 for none with it, and a negative
            number for all, as in the book. By default the book's own, 2.

    Raises:
        UsageError: when one of the first two is needed and missing, or one is given that the file has no use for.
        InputError: when the tensors do not belong to one GPT.
    """
    tensors: Tensors = open_weights(path, find_weights(content))
    has_masks = any(MASK.fullmatch(strip_wrappers(key)) for key in tensors.shapes)
    tensors = Renamed(tensors, key_of_names(tensors.shapes, _table_name))
    merged = _merge_lora(path, tensors, lora_scale)
    tensors = merged or _with_both_ends(tensors)
    config = _config(path, tensors, n_head)
    n_labels = tensors.shapes["out_head.weight"][0]
    is_classifier = n_labels != config.vocab_size
    assumed = {"n_head": config.n_head} | ({} if lora_scale is None else {"lora_scale": lora_scale})
    attention = _attention(path, has_masks, window, window_stride)
    _add_windows(config, **attention)
    assumed |= attention
    if is_classifier:
        _add_labels(config, path, n_labels, labels)
        config.classifier_bias = "out_head.bias" in tensors.shapes
    elif labels is not None:
        raise UsageError(f"--labels does not apply to {path}, which is a language model.")
    else:
        config.tie_word_embeddings = torch.equal(tensors["out_head.weight"], tensors["tok_emb.weight"])
    tied = config.tie_word_embeddings
    is_fused = FUSED in tensors.shapes
    projections = ("qkv",) if is_fused else tuple(QKV_NAMES)
    if tied:
        tensors = Renamed(tensors, {name: name for name in tensors.shapes if name != "out_head.weight"})
    return Source(
        format=NAME,
        config=config,
        architecture="GPTScratchForSequenceClassification" if is_classifier else "GPTScratchForCausalLM",
        key_map=key_map(config, is_classifier, is_fused),
        tensors=tensors,
        originals=merged and merged.apart,
        arithmetic=Arithmetic(
            **ARITHMETIC,
            **attention,
            query_key_value=tuple(f"trf_blocks.{{i}}.att.{name}" for name in projections),
            head="tok_emb.weight" if tied else "out_head.weight",
            lora_scale=lora_scale,
        ),
        files=[path],
        assumed=assumed,
    )


def _table_name(key: str) -> str | None:
    """A key as the table spells it, or `None` for a mask."""
    name = weight_name(key, MASK)
    for pattern, replacement in FAST:
        name = name and pattern.sub(replacement, name)
    return name


def _with_both_ends(tensors: Tensors) -> Tensors:
    """The same; where a tied matrix was saved once, as what saves safetensors leaves it, by both of its names."""
    ends = ("tok_emb.weight", "out_head.weight")
    there = [name for name in ends if name in tensors.shapes]
    if len(there) != 1:
        return tensors
    return Renamed(tensors, {**{name: name for name in tensors.shapes}, **dict.fromkeys(ends, there[0])})


def key_map(config: GPTScratchConfig, is_classifier: bool, is_fused: bool = False) -> list[KeyMapping]:
    """The table for a model of this configuration; a tied output head is no tensor of its own."""
    other = ".att.W_" if is_fused else ".att.qkv."  # which of the two ways it does not have
    rows = [row for row in expand(TABLE, config.n_layer) if other not in row.theirs]
    if not config.qkv_bias:
        rows = [row for row in rows if not re.search(r"att\.(W_\w+|qkv)\.bias", row.theirs)]
    if is_classifier:
        parts = ("weight", "bias") if config.classifier_bias else ("weight",)
        return rows + [KeyMapping(f"out_head.{part}", (f"score.{part}",)) for part in parts]
    return rows if config.tie_word_embeddings else [*rows, KeyMapping("out_head.weight", ("lm_head.weight",))]


def _merge_lora(path: Path, tensors: Tensors, scale: float | None) -> "MergedLora | None":
    """The tensors with LoRA's added to those of their layers, or `None` where there are none of LoRA."""
    if any(LORA.search(name) for name in tensors.shapes):
        if scale is None:
            raise MissingOption(
                "lora_scale",
                f"{path} has LoRA layers: pass --lora-scale, what their A @ B is multiplied by (alpha in the book,"
                " such as 16; alpha / rank in later code).",
            )
        return MergedLora(path, tensors, scale)
    if scale is not None:
        raise UsageError(f"--lora-scale does not apply to {path}, which has no LoRA layers.")
    return None


def _config(path: Path, tensors: Tensors, n_head: int | None) -> GPTScratchConfig:
    """The configuration that follows from the tensors' shapes, without that of the output head."""
    shapes = tensors.shapes
    for name in ("tok_emb.weight", "pos_emb.weight", "out_head.weight", "trf_blocks.0.ff.layers.0.weight"):
        if len(shapes.get(name, ())) != 2:
            raise InputError(f"{path} lacks the matrix {name}, which every GPT of the book has.")
    vocab_size, n_embd = shapes["tok_emb.weight"]
    n_layer = 1 + max(int(found[1]) for name in shapes if (found := re.match(r"trf_blocks\.(\d{1,6})\.", name)))
    check_depth(path, n_layer, tensors)
    return make_config(
        path,
        vocab_size=vocab_size,
        n_positions=shapes["pos_emb.weight"][0],
        n_embd=n_embd,
        n_layer=n_layer,
        n_head=number_of_heads(path, n_embd, n_head),
        n_inner=shapes["trf_blocks.0.ff.layers.0.weight"][0],
        qkv_bias="trf_blocks.0.att.W_query.bias" in shapes or "trf_blocks.0.att.qkv.bias" in shapes,
        tie_word_embeddings=False,
    )


def _attention(path: Path, has_masks: bool, window: int | None, stride: int | None) -> dict[str, int]:
    """The two settings of sliding-window attention as far as they matter; none where the file's masks rule it out."""
    if has_masks and window:
        raise UsageError(f"--window does not apply to {path}, which holds the masks of attention without a window.")
    if has_masks:
        return {}
    return (
        {"window": window, "window_stride": WINDOW_STRIDE if stride is None else stride} if window else {"window": 0}
    )


def _add_windows(config: GPTScratchConfig, window: int = 0, window_stride: int = 0) -> None:
    """Tells the configuration which blocks have a window: `window_stride` of them, then one without, and so on."""
    if window:
        without = range(window_stride, config.n_layer, window_stride + 1) if window_stride >= 0 else ()
        config.sliding_window = window
        config.layer_types = [f"{'full' if i in without else 'sliding'}_attention" for i in range(config.n_layer)]


def _add_labels(config: GPTScratchConfig, path: Path, n_labels: int, labels: str | None) -> None:
    """Tells the configuration the number of a classifier's classes, and their names where they are given."""
    config.num_labels = n_labels
    if labels is None:
        return
    names = labels.split(",")
    if len(names) != n_labels:
        raise UsageError(f"{path} has {n_labels} classes, but --labels has {len(names)} names.")
    config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}


class MergedLora:
    """Tensors in which `linear` and `lora` are one linear layer; `apart` has them as appendix E computes with them."""

    def __init__(self, path: Path, tensors: Tensors, scale: float):
        self._scale = scale
        self.apart = Renamed(tensors, key_of_names(tensors.shapes, lambda name: name.replace(".linear.", ".")))
        self.shapes = {name: shape for name, shape in self.apart.shapes.items() if not LORA.search(name)}
        self.dtypes = self.apart.dtypes
        self._layers = {LORA.sub("", name) for name in self.apart.shapes if LORA.search(name)}
        for layer in self._layers:
            parts = (f"{layer}.weight", f"{layer}.lora.A", f"{layer}.lora.B")
            weight, a, b = (self.apart.shapes.get(part, ()) for part in parts)
            if not len(weight) == len(a) == len(b) == 2 or (a[0], a[1], b[1]) != (weight[1], b[0], weight[0]):
                raise InputError(f"The LoRA matrices {layer}.lora.A and .B in {path} do not fit their layer.")

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self.apart[name]
        layer, _, part = name.rpartition(".")
        if part != "weight" or layer not in self._layers:
            return tensor
        a, b = (self.apart[f"{layer}.lora.{matrix}"].float() for matrix in "AB")
        return (tensor.float() + self._scale * (a @ b).t()).to(tensor.dtype)
