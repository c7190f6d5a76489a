"""This package's model as stock GPT-2, tensor by tensor."""

import os
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import torch

from ..model_folder.contents import resolve_source
from ..utils.errors import InputError
from ..utils.files import atomic_folder
from . import hf_gpt2
from .checkpoint import Checkpoint
from .key_map import Rule
from .native import check_finite, generation_config, open_ours
from .safetensors_file import write_safetensors
from .tokenizers import copy_tokenizer


def export(src: str, out: str | os.PathLike) -> Path:
    """
    The way back: a folder of this package's model as stock GPT-2. Without qkv biases, theirs are zeros.

    Raises:
        InputError: when `src` is not such a folder, or its keys or shapes are not those its config promises.

    Example:
        >>> from hf_gpt_scratch import export
        >>> export("runs/gpt2", "runs/stock")  # doctest: +SKIP
    """
    folder = resolve_source(src)
    ours = open_ours(folder, tuple(hf_gpt2.ARCHITECTURES.values()), "stock GPT-2")
    config, checkpoint = ours.config, ours.checkpoint
    architecture = next(theirs for theirs, name in hf_gpt2.ARCHITECTURES.items() if name == ours.architecture)
    rules = hf_gpt2.rules(architecture, config.n_layer, config.tie_word_embeddings)
    # What the table asks for and a model without qkv biases lacks
    zeros = {name: (config.n_embd,) for rule in rules for name in rule.ours if name not in checkpoint.shapes}
    shapes = {**checkpoint.shapes, **zeros}
    dtypes = {**checkpoint.dtypes, **{name: checkpoint.dtypes[name[:-4] + "weight"] for name in zeros}}

    def read(name: str) -> torch.Tensor:
        if (
            name == "transformer.ln_f.bias"
            and ours.architecture == "GPTScratchForSequenceClassification"
            and config.classifier_bias
        ):
            return _with_classifier_bias(checkpoint)
        if name not in zeros:
            return check_finite(checkpoint[name], f"{name} in {folder}")
        return torch.zeros(zeros[name], dtype=dtypes[name])

    rule_of = {rule.theirs: rule for rule in rules}

    def promise(rule: Rule) -> torch.Tensor:
        dtype = reduce(torch.promote_types, (dtypes[name] for name in rule.ours))
        return torch.empty(rule.their_shape(shapes[name] for name in rule.ours), dtype=dtype, device="meta")

    with atomic_folder(out) as partial:
        write_safetensors(
            partial,
            {rule.theirs: promise(rule) for rule in rules},
            lambda name: rule_of[name].to_theirs(read(part) for part in rule_of[name].ours),
        )
        hf_gpt2.config_to_theirs(config, architecture).save_pretrained(partial)
        _check_way_back(partial, read, set(shapes))
        if architecture == "GPT2LMHeadModel":
            generation_config(folder, config).save_pretrained(partial)
        copy_tokenizer(folder, partial)
    return Path(out)


def _check_way_back(folder: Path, read: Callable[[str], torch.Tensor], names: set[str]) -> None:
    """Raises `InputError` unless the exported folder, read back, holds our tensors to the bit."""
    source = hf_gpt2.open_source(folder)
    for rule in source.rules:
        for name, tensor in rule.to_ours(source.tensors[rule.theirs]).items():
            if not torch.equal(tensor, read(name)):
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
