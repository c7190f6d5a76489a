"""Checkpoints of the GPT-2 family into this package's model and out of it, tensor by tensor."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path

import torch
from transformers import GenerationConfig

from ..configuration_gpt_scratch import GPTScratchConfig
from ..errors import InputError
from ..provenance import environment, recorded_source, sha256
from ..saving import atomic_folder, save_config_and_code, write_json
from . import hf_gpt2, proof
from .checkpoint import Checkpoint
from .formats import open_source
from .ours import check_dtypes, check_finite, check_keys, open_ours, our_shapes
from .rules import Rule
from .safetensors_file import write_safetensors
from .source import resolve_source
from .tokenizers import copy_tokenizer, tokenizer_for


@dataclass(frozen=True)
class Conversion:
    """The folder a checkpoint became, what it was, and how far the logits are apart, where that was measured."""

    folder: Path
    format: str
    max_logit_difference: float | None


def convert(
    src: str,
    out: str | os.PathLike,
    format: str = "auto",
    tokenizer: str | None = None,
    prove: bool = False,
    **options,
) -> Conversion:
    """
    Converts a checkpoint of another format into a folder of this package's model, loadable by the Auto classes.

    Args:
        src: a local file or folder, or a Hub repository such as `openai-community/gpt2`.
        out: the folder to make; it must not be there yet.
        format: one of `FORMATS`, or "auto" to find it out.
        tokenizer: a folder or a Hub repository with the tokenizer to put beside the model, or "none"; by default the
            source's own, or GPT-2's.
        prove: compare the result's logits, computed where this package is not installed, with the source's own
            arithmetic, and keep the difference in `conversion.json`.
        options: the format's own, see `open_source`.

    Raises:
        InputError: when `src` is not such a checkpoint, or holds keys, shapes or values that are not understood,
            naming all of them; or when the proof fails.
        UsageError: for an option that the format does not have.
    """
    source = open_source(resolve_source(src), format, **options)
    shapes = our_shapes(source.config, source.architecture)
    expected = {rule.theirs: rule.their_shape(shapes[name] for name in rule.ours) for rule in source.rules}
    check_keys(source.tensors.shapes, expected)
    check_dtypes({name: source.tensors.dtypes[name] for name in expected})
    rule_of = {name: rule for rule in source.rules for name in rule.ours}
    zeros = {name: torch.zeros(shapes[name]) for name in source.zeros if name in shapes}
    dtypes = {name: source.tensors.dtypes[rule.theirs] for name, rule in rule_of.items()}
    layout = {name: torch.empty(shapes[name], dtype=dtype, device="meta") for name, dtype in dtypes.items()}
    layout |= {name: tensor.to("meta") for name, tensor in zeros.items()}

    @lru_cache(maxsize=1)
    def read(rule: Rule) -> dict[str, torch.Tensor]:
        tensor = source.tensors[rule.theirs]
        return rule.to_ours(check_finite(tensor, f"{rule.theirs} in {src}"))

    carried = tokenizer_for(source, tokenizer)
    if carried is not None and source.folder is None:  # the format does not say where a text ends
        source.config.bos_token_id, source.config.eos_token_id = carried.bos_token_id, carried.eos_token_id
    difference = None
    with atomic_folder(out) as partial:
        write_safetensors(partial, layout, lambda name: zeros[name] if name in zeros else read(rule_of[name])[name])
        save_config_and_code(source.config, source.architecture, partial)
        if source.architecture == "GPTScratchForCausalLM":
            _generation_config(source.folder, source.config).save_pretrained(partial)
        if carried is not None:
            carried.save_pretrained(partial)
        if prove:
            difference = proof.prove(source, partial)
            hashes = {file.name: sha256(file) for file in source.files}
            record = {"source": recorded_source(str(src)), "format": source.format, "sha256": hashes}
            write_json(partial / "conversion.json", {**record, "max_logit_difference": difference, **environment()})
    return Conversion(Path(out), source.format, difference)


def export(src: str, out: str | os.PathLike) -> Path:
    """
    The way back: a folder of this package's model as stock GPT-2. Without qkv biases, theirs are zeros.

    Raises:
        InputError: when `src` is not such a folder, or its keys or shapes are not those its config promises.
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
            _generation_config(folder, config).save_pretrained(partial)
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


def _generation_config(folder: Path | None, config: GPTScratchConfig) -> GenerationConfig:
    if folder is not None and (folder / "generation_config.json").is_file():
        try:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{folder / 'generation_config.json'} cannot be read ({reason}).") from None
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
