"""Checkpoints of the GPT-2 family into this package's model, tensor by tensor."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from ..model_folder.contents import resolve_source
from ..model_folder.saving import save_config_and_code
from ..utils.files import atomic_folder, write_json
from ..utils.provenance import environment, recorded_source, sha256
from . import proof
from .formats import open_source
from .key_map import Rule
from .native import check_dtypes, check_finite, check_keys, generation_config, our_shapes
from .safetensors_file import write_safetensors
from .tokenizers import tokenizer_for


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

    Example:
        >>> from hf_gpt_scratch import convert
        >>> convert("openai-community/gpt2", "runs/gpt2", prove=True).max_logit_difference  # doctest: +SKIP
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
            generation_config(source.folder, source.config).save_pretrained(partial)
        if carried is not None:
            carried.save_pretrained(partial)
        if prove:
            difference = proof.prove(source, partial)
            hashes = {file.name: sha256(file) for file in source.files}
            record = {"source": recorded_source(str(src)), "format": source.format, "sha256": hashes}
            write_json(partial / "conversion.json", {**record, "max_logit_difference": difference, **environment()})
    return Conversion(Path(out), source.format, difference)
