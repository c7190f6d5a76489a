"""
The tokenizer of nanoGPT's character models: `meta.pkl` beside the checkpoint, with each character's id under `stoi`.

Source: nanoGPT's `data/shakespeare_char/prepare.py`, which writes it, and `sample.py`, which reads it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError
from .inert_pickle import InertPickleError, loads

META = "meta.pkl"


def characters_beside(path: Path, config: GPTScratchConfig) -> Callable[[], PreTrainedTokenizerFast] | None:
    """What makes the tokenizer of the `meta.pkl` beside a checkpoint, or in its folder; `None` without that file."""
    file = (path if path.is_dir() else path.parent) / META
    return partial(character_tokenizer, file, config) if file.is_file() else None


def character_tokenizer(path: Path, config: GPTScratchConfig) -> PreTrainedTokenizerFast:
    """
    A tokenizer whose tokens are single characters, with the ids of `stoi` in that file. It has no special tokens; a
    character that it does not know gets no token.

    Raises:
        InputError: when the file is damaged, holds anything but characters and numbers, or other ones than the model.
    """
    try:
        content = loads(path.read_bytes())
    except InertPickleError as error:
        raise InputError(f"{path} was not read: {error}. Pass --tokenizer DIR, or --tokenizer none.") from None
    ids = content.get("stoi") if isinstance(content, dict) else None
    if not isinstance(ids, dict) or not ids or not all(map(_is_entry, ids.items())):
        raise InputError(
            f"{path} does not hold the number of each character under stoi, as nanoGPT's does: pass --tokenizer DIR,"
            " or --tokenizer none."
        )
    if len(set(ids.values())) < len(ids):
        raise InputError(f"{path} gives two characters the same number: pass --tokenizer DIR, or --tokenizer none.")
    if not max(ids.values()) < config.vocab_size < len(ids) + 128:
        raise InputError(
            f"{path} has {len(ids)} characters, but the model {config.vocab_size} tokens: pass the tokenizer it was"
            " trained with as --tokenizer DIR, or --tokenizer none."
        )
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_max_length=config.n_positions
    )


def _is_entry(entry: tuple[object, object]) -> bool:
    character, number = entry
    is_character = isinstance(character, str) and len(character) == 1 and not 0xD800 <= ord(character) < 0xE000
    return is_character and type(number) is int and 0 <= number < 2**31
