"""What a file of weights holds: its state dict, bare or in a training script's checkpoint, and what it leaves open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..utils.errors import InputError
from .checkpoint import Checkpoint
from .safetensors_reader import SafetensorsFile
from .source import MissingOption, Tensors
from .torch_file import TorchTensors, load_torch

WRAPPERS = ("model_state_dict", "state_dict", "model")  # under which training scripts keep the weights
HEAD = "lm_head.weight"
HEAD_DIM = 64  # of every GPT-2, and of the book's models


def load_weights(path: Path) -> Any:
    """What a file of safetensors or of torch.save holds; raises `InputError` as their readers do."""
    if path.name in ("model.safetensors", "pytorch_model.bin") and (path.parent / "config.json").is_file():
        raise InputError(
            f"{path} belongs to a model folder, whose config.json says what the weights are: convert {path.parent}."
        )
    return SafetensorsFile(path) if path.suffix == ".safetensors" else load_torch(path)


def find_weights(content: Any) -> Any:
    """The mapping from names to tensors in what a file holds, or `None` where there is none."""
    if isinstance(content, SafetensorsFile | Checkpoint):
        return content
    if not isinstance(content, Mapping):
        return None
    inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), content)
    return inner if all(isinstance(name, str) for name in inner) else None


def names_in(content: Any) -> list[str]:
    """The names of the weights in what a file holds."""
    weights = find_weights(content)
    return list(weights.shapes if isinstance(weights, Checkpoint) else weights or ())


def shapes_in(content: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in what a file holds, by name."""
    weights = find_weights(content)
    if isinstance(weights, SafetensorsFile | Checkpoint):
        return weights.shapes
    return {name: tuple(part.shape) for name, part in (weights or {}).items() if isinstance(part, torch.Tensor)}


def open_weights(path: Path, weights: Any) -> Tensors:
    """The tensors of `find_weights`; raises `InputError` where they are none, naming `path`."""
    return weights if isinstance(weights, SafetensorsFile | Checkpoint) else TorchTensors(path, weights)


def number_of_heads(path: Path, n_embd: int, n_head: int | None) -> int:
    """`n_head`, which the file does not hold, or one for every 64 dimensions; raises `UsageError` where none fits."""
    if n_head is None and n_embd % HEAD_DIM:
        raise MissingOption(
            "n_head",
            f"{path} does not hold the number of attention heads, and its width of {n_embd} is not a multiple of"
            f" {HEAD_DIM}: pass --n-head, the number that it was trained with.",
        )
    return n_head or n_embd // HEAD_DIM


def tie_head(tensors: Tensors, key_of: dict[str, str], embeddings: str) -> bool:
    """
    Whether the output head of a GPT-2 is its token `embeddings`; `key_of` then has the matrix by their name alone. One
    that stands there by one of its two names alone, as what saves safetensors leaves it, is tied.
    """
    head, wte = key_of.get(HEAD), key_of.get(embeddings)
    if head and wte and not tensors[head].equal(tensors[wte]):
        return False
    key_of.pop(HEAD, None)
    if head or wte:
        key_of[embeddings] = wte or head
    return True
