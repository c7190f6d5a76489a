"""Checkpoints of the GPT-2 family into this package's model and out of it, tensor by tensor."""

import os
from functools import lru_cache
from pathlib import Path

import torch
from transformers import GenerationConfig

from .. import modeling_gpt_scratch
from ..configuration_gpt_scratch import GPTScratchConfig
from ..errors import InputError
from ..saving import atomic_folder, save_config_and_code
from . import hf_gpt2
from .checkpoint import Checkpoint, write_safetensors
from .source import copy_tokenizer, read_config, resolve_source


def convert(src: str, out: str | os.PathLike) -> Path:
    """
    Converts a stock GPT-2 into a folder of this package's model, loadable by the Auto classes.

    Args:
        src: a local folder, or a Hub repository such as `openai-community/gpt2`.
        out: the folder to make; it must not be there yet.

    Raises:
        InputError: when `src` is not a GPT-2, or holds keys or shapes that are not understood, naming all of them.
    """
    folder = resolve_source(src)
    settings = read_config(folder, "gpt2")
    checkpoint = Checkpoint(folder)
    architecture = hf_gpt2.find_architecture(settings.get("architectures"), set(checkpoint.shapes))
    config = hf_gpt2.config_to_ours(settings)
    rules = hf_gpt2.rules(architecture, config.n_layer, config.tie_word_embeddings)

    key_of = {}  # the table's spelling of a key -> the file's
    for key in checkpoint.shapes:
        name = hf_gpt2.normalize_key(key, architecture)
        if name in key_of:
            raise InputError(f"{key_of[name]} and {key} are the same weight; the checkpoint is damaged.")
        if name is not None:
            key_of[name] = key
    tied_head = key_of.pop("lm_head.weight", None) if config.tie_word_embeddings else None

    shapes = our_shapes(config, hf_gpt2.ARCHITECTURES[architecture])
    expected = {rule.theirs: rule.their_shape(shapes[name] for name in rule.ours) for rule in rules}
    check_keys({name: checkpoint.shapes[key] for name, key in key_of.items()}, expected)
    embeddings = rules[0].theirs  # the table begins with them
    if tied_head and not torch.equal(checkpoint[tied_head], checkpoint[key_of[embeddings]]):
        raise InputError(
            "lm_head.weight differs from wte.weight although the config ties them; set tie_word_embeddings to false."
        )

    rule_of = {name: rule for rule in rules for name in rule.ours}
    read = lru_cache(maxsize=1)(lambda rule: rule.to_ours(checkpoint[key_of[rule.theirs]]))
    with atomic_folder(out) as partial:
        write_safetensors(
            partial, {name: shapes[name] for name in rule_of}, config.dtype, lambda name: read(rule_of[name])[name]
        )
        save_config_and_code(config, hf_gpt2.ARCHITECTURES[architecture], partial)
        if architecture == "GPT2LMHeadModel":
            _generation_config(folder, config).save_pretrained(partial)
        copy_tokenizer(folder, partial)
    return Path(out)


def export(src: str, out: str | os.PathLike) -> Path:
    """
    The way back: a folder of this package's model as stock GPT-2. Without qkv biases, theirs are zeros.

    Raises:
        InputError: when `src` is not such a folder, or its keys or shapes are not those its config promises.
    """
    folder = resolve_source(src)
    settings = read_config(folder, GPTScratchConfig.model_type)
    try:
        config = GPTScratchConfig(**settings)
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'} cannot be of a model: {error}") from None
    checkpoint = Checkpoint(folder)
    ours = (settings.get("architectures") or ["none"])[0]
    if ours not in hf_gpt2.ARCHITECTURES.values():
        raise InputError(f"{folder} says it is a {ours}, which stock GPT-2 has no counterpart for.")
    architecture = next(theirs for theirs, name in hf_gpt2.ARCHITECTURES.items() if name == ours)
    rules = hf_gpt2.rules(architecture, config.n_layer, config.tie_word_embeddings)
    expected = our_shapes(config, ours)
    check_keys(checkpoint.shapes, expected)
    # What the table asks for and a model without qkv biases lacks
    zeros = {name: (config.n_embd,) for rule in rules for name in rule.ours if name not in expected}
    shapes = {**expected, **zeros}

    def read(name: str) -> torch.Tensor:
        if name not in zeros:
            return checkpoint[name]
        return torch.zeros(zeros[name], dtype=checkpoint[name.removesuffix("bias") + "weight"].dtype)

    rule_of = {rule.theirs: rule for rule in rules}
    with atomic_folder(out) as partial:
        write_safetensors(
            partial,
            {rule.theirs: rule.their_shape(shapes[name] for name in rule.ours) for rule in rules},
            config.dtype,
            lambda name: rule_of[name].to_theirs(read(part) for part in rule_of[name].ours),
        )
        hf_gpt2.config_to_theirs(config, architecture).save_pretrained(partial)
        if architecture == "GPT2LMHeadModel":
            _generation_config(folder, config).save_pretrained(partial)
        copy_tokenizer(folder, partial)
    return Path(out)


def our_shapes(config: GPTScratchConfig, architecture: str) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that a saved model of this configuration has, found without its memory."""
    with torch.device("meta"):
        model = getattr(modeling_gpt_scratch, architecture)(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    return shapes


def check_keys(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Raises `InputError` naming every key that is missing, unknown or of another shape than expected."""
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unknown {name}" for name in found if name not in expected]
    problems += [
        f"{name} has shape {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if problems:
        raise InputError(f"The checkpoint does not fit its config.json: {'; '.join(problems)}.")


def _generation_config(folder: Path, config: GPTScratchConfig) -> GenerationConfig:
    if (folder / "generation_config.json").is_file():
        try:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{folder / 'generation_config.json'} cannot be read ({reason}).") from None
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
