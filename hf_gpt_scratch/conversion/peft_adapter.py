"""
A LoRA adapter of stock GPT-2, as PEFT saves it, merged into the model it was trained on, a tensor at a time.

Source: PEFT's `tuners/lora/layer.py`. Beside a linear layer stand `lora_A.weight`, `(r, in)`, and `lora_B.weight`,
`(out, r)`; their product, times `lora_alpha / r` or with `use_rslora` times `lora_alpha / sqrt(r)`, is added to the
weight, which in the Conv1D of stock GPT-2 is `(in, out)`.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..model_folder.contents import ADAPTER_CONFIG, ModelFolder, has_tokenizer, resolve_source
from ..utils.errors import InputError
from ..utils.numbers import is_number
from . import hf_gpt2
from .native import check_dtypes
from .safetensors_reader import SafetensorsFile
from .source import Source, Tensors
from .torch_file import TorchTensors, load_torch

NAME = "PEFT adapter of stock GPT-2"
KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
# What adapter_config.json of plain LoRA may set: the merged model depends on none of it, or is made with it here
PLAIN = frozenset(
    (
        *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "inference_mode"),
        *("r", "lora_alpha", "lora_dropout", "fan_in_fan_out", "use_rslora", "rank_pattern", "merge_weights"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("ensure_weight_tying", "megatron_core", "qalora_group_size"),
    )
)
# Settings of plain LoRA by some of their values only
PLAIN_VALUES = {"bias": ("none",), "init_lora_weights": (True, "gaussian", "orthogonal"), "revision": ("main",)}


def accepts(path: Path, content: object) -> bool:
    """Whether it is the folder of an adapter."""
    return (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").is_file()


def open_source(folder: Path, content: None = None) -> Source:
    """
    Opens an adapter and the stock GPT-2 that its configuration names, a folder or a Hub repository.

    Raises:
        InputError: when it is not plain LoRA, does not fit that model, or that model is not a stock GPT-2.
    """
    adapter = ModelFolder.read(folder)
    base_folder = resolve_source(adapter.base)
    if (base_folder / "config.json").is_file() and ModelFolder.read(base_folder).is_native:
        raise InputError(
            f"{folder} is an adapter of {adapter.base}, which is already a model of this package, and needs no"
            " conversion: every command takes it as it is, and `hf-gpt-scratch export` merges it."
        )
    scale = _scale(folder, adapter.adapter or {})
    if not hf_gpt2.accepts(base_folder, None):
        raise InputError(f"The adapter in {folder} was trained on {adapter.base}, which is not a stock GPT-2 folder.")
    base = hf_gpt2.open_source(base_folder)
    file = next((folder / f"adapter_model.{end}" for end in ("safetensors", "bin") if _is_there(folder, end)), None)
    if file is None:
        raise InputError(f"{folder} holds no adapter_model.safetensors.")
    tensors: Tensors = SafetensorsFile(file) if file.suffix == ".safetensors" else TorchTensors(file, load_torch(file))
    layers = _layers(tensors, base, scale)
    # In half precision the merged weights are rounded, as PEFT's are, so that the two apart are not the same model.
    is_exact = all(base.tensors.dtypes[name] == torch.float32 for name in layers)
    own_tokenizer = has_tokenizer(folder)
    return replace(
        base,
        format=NAME,
        tensors=_Merged(base.tensors, layers),
        originals=_Apart(base.tensors, layers) if is_exact else None,
        arithmetic=replace(base.arithmetic, lora_scale=1.0),
        files=[*base.files, file],
        folder=folder if own_tokenizer else base.folder,
        stock=None,  # which would be the base alone
    )


def _is_there(folder: Path, end: str) -> bool:
    return (folder / f"adapter_model.{end}").is_file()


def _scale(folder: Path, settings: dict[str, Any]) -> Callable[[int], float]:
    """What the product of two matrices of rank r is multiplied by, as a function of r."""
    kind = settings.get("peft_type")
    if (unsupported := _unsupported(settings)) or kind != "LORA":
        what = f"is of the type {kind}" if kind != "LORA" else f"uses {', '.join(unsupported)}"
        raise InputError(
            f"The adapter in {folder} {what}, which this package does not merge: merge it with PEFT's"
            " merge_and_unload(), save that model, and convert it."
        )
    alpha = settings.get("lora_alpha")
    if not is_number(alpha):
        raise InputError(f"The lora_alpha in {folder / ADAPTER_CONFIG} must be a number, not {str(alpha)[:30]!r}.")
    return lambda rank: alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _unsupported(settings: dict[str, Any]) -> list[str]:
    """Those of an adapter's settings, where they are set at all, that are not of plain LoRA."""
    found = {name: value for name, value in settings.items() if value and name not in PLAIN}
    other = [name for name, value in found.items() if value not in PLAIN_VALUES.get(name, ())]
    return [f"{name}={found[name]}" if name in PLAIN_VALUES else name for name in other]


class _Layer:
    """The two matrices beside one linear layer."""

    def __init__(self, tensors: Tensors, a: str, b: str, scale: float, in_out: bool):
        self._tensors, self._a, self._b, self._scale, self._in_out = tensors, a, b, scale, in_out

    def matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._tensors[self._a].float(), self._tensors[self._b].float()

    def merged(self, weight: torch.Tensor) -> torch.Tensor:
        a, b = self.matrices()
        delta = (b @ a).t() if self._in_out else b @ a
        return (weight.float() + delta * self._scale).to(weight.dtype)

    def apart(self) -> dict[str, torch.Tensor]:
        """As the independent forward computes with them: `x @ A @ B`."""
        a, b = self.matrices()
        return {"A": a.t() * self._scale, "B": b.t()}


def _layers(tensors: Tensors, base: Source, scale: Callable[[int], float]) -> dict[str, _Layer]:
    """The matrices by the names of the weights they are added to, each checked against it."""
    pairs, problems = _pairs(tensors, base)
    transposed = {row.theirs: row.transpose for row in base.key_map}
    layers = {}
    for name, keys in pairs.items():
        size_in, size_out = base.tensors.shapes[name][:: 1 if transposed[name] else -1]
        if missing := {"A", "B"} - keys.keys():
            problems.append(f"missing lora_{missing.pop()} of {name}")
            continue
        rank = (tensors.shapes[keys["A"]] or (0,))[0]
        for part, wanted in (("A", (rank, size_in)), ("B", (size_out, rank))):
            if (shape := tensors.shapes[keys[part]]) != wanted or not rank:
                problems.append(f"{keys[part]} has shape {list(shape)} instead of {list(wanted)}")
        layers[name] = _Layer(tensors, keys["A"], keys["B"], scale(max(rank, 1)), transposed[name])
    if problems or not layers:
        raise InputError(f"The adapter does not fit its model: {'; '.join(problems) or 'it has no LoRA matrices'}.")
    check_dtypes({key: tensors.dtypes[key] for keys in pairs.values() for key in keys.values()})
    return layers


def _pairs(tensors: Tensors, base: Source) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The keys of each weight's two matrices, and the keys that are not understood."""
    stock = next(name for name, ours in hf_gpt2.ARCHITECTURES.items() if ours == base.architecture)
    weights = {row.theirs for row in base.key_map if len(base.tensors.shapes.get(row.theirs, ())) == 2}
    pairs: dict[str, dict[str, str]] = {}
    problems = []
    for key in tensors.shapes:
        if _is_copy(key, tensors, base, stock):
            continue
        found = KEY.fullmatch(key)
        name = found and hf_gpt2.normalize_key(f"{found[1]}.weight", stock)
        if not found or name not in weights or name.endswith(("wte.weight", "wpe.weight")):
            problems.append(f"unknown {key}")
        elif found[2] in pairs.setdefault(name, {}):
            problems.append(f"{pairs[name][found[2]]} and {key} are the same weight")
        else:
            pairs[name][found[2]] = key
    return pairs, problems


def _is_copy(key: str, tensors: Tensors, base: Source, stock: str) -> bool:
    """Whether it is the base model's own matrix, which PEFT saves beside an adapter of the output head."""
    name = key.removeprefix("base_model.model.")
    if not name.endswith(".base_layer.weight"):
        return False
    name = hf_gpt2.normalize_key(name.replace(".base_layer.", "."), stock) or ""
    return name in base.tensors.shapes and torch.equal(tensors[key], base.tensors[name])


class _Merged:
    """The base model's tensors with the adapter's added."""

    def __init__(self, base: Tensors, layers: dict[str, _Layer]):
        self.shapes, self.dtypes = base.shapes, base.dtypes
        self._base, self._layers = base, layers

    def __getitem__(self, name: str) -> torch.Tensor:
        weight = self._base[name]
        return self._layers[name].merged(weight) if name in self._layers else weight


class _Apart:
    """The base model's tensors, and the adapter's beside them by the names of the independent forward."""

    def __init__(self, base: Tensors, layers: dict[str, _Layer]):
        self._base = base
        self._matrices = {
            f"{name.removesuffix('.weight')}.lora.{part}": (layer, part)
            for name, layer in layers.items()
            for part in "AB"
        }
        self.shapes = {**base.shapes, **dict.fromkeys(self._matrices, ())}
        self.dtypes = base.dtypes

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._matrices:
            layer, part = self._matrices[name]
            return layer.apart()[part]
        return self._base[name]
