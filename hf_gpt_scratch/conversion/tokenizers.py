"""The tokenizer that goes with a converted model."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..model_folder.contents import has_tokenizer
from ..tokenizer import fit_length, gpt2_tokenizer, load_tokenizer
from ..utils.errors import InputError, one_line
from ..utils.files import read_json_object, write_json
from . import openai_tf
from .source import Source

GPT2_REPOSITORY = "openai-community/gpt2"
WITHOUT_TOKENIZER = "there is no tokenizer beside the weights, so the model has none; add one with --tokenizer DIR."


def tokenizer_for(source: Source, wanted: str | None = None) -> PreTrainedTokenizerBase | None:
    """
    The tokenizer to put beside a converted model.

    Args:
        wanted: a folder or a Hub repository, or "none". By default the one beside the source; for a format
            that has none of its own, GPT-2's.

    Raises:
        InputError: when it cannot be read, or does not fit the model's vocabulary.
    """
    if wanted == "none":
        return None
    size = source.config.vocab_size
    if wanted is None and (source.tokenizer or source.folder):
        tokenizer = source.tokenizer() if source.tokenizer else _tokenizer_of(source.folder)
        # Fewer tokens than the model has are common, as vocabularies are rounded up.
        if tokenizer is not None and (largest := max(tokenizer.get_vocab().values())) >= size:
            raise InputError(
                f"The tokenizer in {source.folder or source.files[0]} has tokens up to {largest}, but the model only"
                f" {size}: pass the one it was trained with as --tokenizer DIR, or --tokenizer none."
            )
        return tokenizer
    try:
        tokenizer = load_tokenizer(wanted or GPT2_REPOSITORY)
    except InputError:
        if wanted:
            raise
        raise InputError(
            f"GPT-2's tokenizer could not be downloaded from {GPT2_REPOSITORY} (no network?): pass a folder that holds"
            " one as --tokenizer DIR, or --tokenizer none."
        ) from None
    # A model's vocabulary may be rounded up to a multiple of 128, for speed.
    if not len(tokenizer) <= size < len(tokenizer) + 128:
        raise InputError(
            f"{wanted or GPT2_REPOSITORY}'s tokenizer has {len(tokenizer)} tokens, but the model {size}: pass the one"
            " it was trained with as --tokenizer DIR, or --tokenizer none."
        )
    return tokenizer


def copy_tokenizer(source: Path, target: Path, n_positions: int) -> None:
    """
    Copies the tokenizer, where the source folder has one, in the form the Auto classes load, beside a model of so many
    positions.
    """
    tokenizer = _tokenizer_of(source)
    if tokenizer is not None:
        fit_length(tokenizer, n_positions).save_pretrained(target)


def inline_chat_template(folder: Path) -> None:
    """Repeats a chat template in tokenizer_config.json, which is the one file where transformers.js looks for it."""
    template, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if template.is_file():
        write_json(settings, read_json_object(settings) | {"chat_template": template.read_text(encoding="utf-8")})


def _tokenizer_of(folder: Path) -> PreTrainedTokenizerBase | None:
    if has_tokenizer(folder):
        return load_tokenizer(folder)
    files = [folder / name for name in openai_tf.TOKENIZER_FILES]
    if not all(file.is_file() for file in files):
        return None
    try:
        return gpt2_tokenizer(*files)
    except Exception as error:  # a damaged file raises nearly anything
        raise InputError(f"{folder} holds no tokenizer that can be read ({one_line(error)}).") from None
