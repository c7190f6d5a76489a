"""Checkpoints of the GPT-2 family into this package's model, tensor by tensor."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..model_folder.saving import save_config_and_code
from ..tokenizer import fit_length
from ..utils.files import atomic_folder, write_json
from ..utils.provenance import environment, recorded_source, sha256
from . import proof
from .chosen_file import chosen
from .formats import open_source
from .generation_settings import generation_config, settle
from .key_map import KeyMapping
from .native import check_dtypes, check_finite, check_keys, native_shapes
from .safetensors_file import write_safetensors
from .source import Source
from .tokenizers import WITHOUT_TOKENIZER, tokenizer_for


@dataclass(frozen=True)
class Conversion:
    """
    The folder a checkpoint became, its format, and how far the logits are apart, where that was measured.

    `assumed` has the settings that the checkpoint does not hold and the difference therefore cannot test, such as the
    number of attention heads of the book's files; `guessed` has those of them that neither the caller gave nor a text
    told. `notes` are sentences on what else to know of the result, such as what was filled in or contradicted itself.
    """

    folder: Path
    format: str
    max_logit_difference: float | None
    assumed: dict[str, int | float | str]
    guessed: dict[str, int | float | str]
    notes: tuple[str, ...] = ()


def convert(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str = "auto",
    tokenizer: str | None = None,
    prove: bool = False,
    file: str | None = None,
    calibration_text: str | os.PathLike[str] | None = None,
    report: Callable[[str], object] = lambda line: None,
    **options: Any,
) -> Conversion:
    """
    Converts a checkpoint of another format into a folder of this package's model, loadable by the Auto classes.

    Args:
        src: a local file or folder, or a Hub repository such as `openai-community/gpt2`.
        out: the folder to make; it must not exist yet.
        format: one of `choices.FORMATS`, or "auto" to find it out.
        tokenizer: a folder or a Hub repository with the tokenizer to put beside the model, or "none"; by default the
            source's own, or GPT-2's.
        prove: compare the result's logits, computed where this package is not installed, with the source's own
            arithmetic, and record the difference in `conversion.json`.
        file: the weights to convert, by their name in the folder or repository `src`, where it holds several.
        calibration_text: a file whose text the model should predict well, to tell the settings by that the checkpoint
            does not hold and `options` do not give (see `evidence`).
        report: is called with each line about what that text tells.
        options: the format's own, see `open_source`.

    Raises:
        InputError: when `src` is not such a checkpoint, or holds keys, shapes or values that are not understood,
            naming all of them; or when the proof fails.
        UsageError: for an option that the format does not have.

    Examples:
        >>> from hf_gpt_scratch import convert
        >>> convert("openai-community/gpt2", "runs/gpt2", prove=True).max_logit_difference  # doctest: +SKIP
        6.1e-05
        >>> convert("model.pth", "runs/mine", n_head=12).format  # doctest: +SKIP
        'LLMs-from-scratch state dict'
    """
    with chosen(str(src), file) as path:
        if calibration_text is None:
            source, told = open_source(path, format, **options), None
            carried = tokenizer_for(source, tokenizer)
        else:
            from . import evidence  # which loads transformers' trainer, by way of the losses

            source, carried, told = evidence.settle(path, format, options, tokenizer, Path(calibration_text), report)
        record = {"source": recorded_source(str(src)), "format": source.format}
        record |= {"file": file} if file else {}
        record |= {"calibration": told.record()} if told else {}
        difference, notes = _write(source, carried, str(src), out, record if prove else None)
    notes = [*source.notes, *notes, *([] if carried is not None or tokenizer == "none" else [WITHOUT_TOKENIZER])]
    known = {**options, **(told.settled if told else {})}
    guessed = {name: value for name, value in source.assumed.items() if known.get(name) is None}
    return Conversion(Path(out), source.format, difference, source.assumed, guessed, tuple(notes))


def _write(
    source: Source,
    tokenizer: PreTrainedTokenizerBase | None,
    name: str,
    out: str | os.PathLike[str],
    record: dict | None,
) -> tuple[float | None, list[str]]:
    """
    Writes the folder; with a `record` for conversion.json, proves it too. Returns the difference that the proof found,
    and what is to be known of the model's special tokens; `name` is the source's, for messages.
    """
    layout, read = _plan(source, name)
    writes = source.architecture == "GPTScratchForCausalLM"
    generation = generation_config(source.settings if writes else None, source.config)
    notes, difference = settle(source.config, generation, tokenizer, is_stated=source.settings is not None), None
    with atomic_folder(out) as partial:
        write_safetensors(partial, layout, read)
        save_config_and_code(source.config, source.architecture, partial)
        if writes:
            generation.save_pretrained(partial)
        if tokenizer is not None:
            fit_length(tokenizer, source.config.n_positions).save_pretrained(partial)
        if record is not None:
            difference = proof.prove(source, partial)
            hashes = {path.name: sha256(path) for path in source.files}
            record |= {"sha256": hashes, "assumed": source.assumed, "max_logit_difference": difference}
            write_json(partial / "conversion.json", {**record, **environment()})
    return difference, notes


def _plan(source: Source, name: str) -> tuple[dict[str, torch.Tensor], Callable[[str], torch.Tensor]]:
    """
    Our tensors to write, by name, without memory, and what reads one of them from the source.

    Raises:
        InputError: when the source's tensors are not those that its configuration asks for; `name` names the source.
    """
    shapes = native_shapes(source.config, source.architecture)
    expected = {row.theirs: row.their_shape(shapes[ours] for ours in row.ours) for row in source.key_map}
    check_keys(source.tensors.shapes, expected)
    check_dtypes({theirs: source.tensors.dtypes[theirs] for theirs in expected})
    row_of = {ours: row for row in source.key_map for ours in row.ours}
    zeros = {ours: torch.zeros(shapes[ours]) for ours in source.zeros if ours in shapes}
    layout = {
        ours: torch.empty(shapes[ours], dtype=source.tensors.dtypes[row.theirs], device="meta")
        for ours, row in row_of.items()
    }
    layout |= {ours: tensor.to("meta") for ours, tensor in zeros.items()}

    @lru_cache(maxsize=1)
    def read_row(row: KeyMapping) -> dict[str, torch.Tensor]:
        return row.to_ours(check_finite(source.tensors[row.theirs], f"{row.theirs} in {name}"))

    return layout, lambda ours: zeros[ours] if ours in zeros else read_row(row_of[ours])[ours]
