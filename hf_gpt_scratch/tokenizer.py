"""
Tokenizers: GPT-2's byte-level BPE, or one of the same kind trained on your own texts.

The contract on special tokens. `<|endoftext|>` is the EOS token: learnt, and so never masked out of the labels.
GPT-2's vocabulary has no token for padding, so the EOS token doubles as one; a tokenizer trained here has a `<|pad|>`
of its own. Either way, padding is told by the attention mask, never by the token id.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .model_folder.contents import has_tokenizer, resolve_source
from .model_folder.settings_check import require_sizes
from .model_folder.weight_files import is_plain_name
from .utils.errors import InputError, damage_told
from .utils.files import is_missing_folder, read_json_object
from .utils.provenance import json_sha256

END_TOKEN = "<|endoftext|>"
PAD_TOKEN = "<|pad|>"


def gpt2_tokenizer(vocab: str | os.PathLike, merges: str | os.PathLike) -> GPT2Tokenizer:
    """GPT-2's tokenizer from its two files: `vocab.json` (OpenAI's `encoder.json`), `merges.txt` (`vocab.bpe`)."""
    for path in (vocab, merges):
        if not Path(path).is_file():
            raise InputError(f"The tokenizer file {path} does not exist.")
    return GPT2Tokenizer(vocab=str(vocab), merges=str(merges), pad_token=END_TOKEN, model_max_length=1024)


def load_tokenizer(name_or_path: str | os.PathLike) -> PreTrainedTokenizerBase:
    """
    The tokenizer of a model folder or a Hub repository, with the EOS token for padding where it has no other.

    Raises:
        InputError: when there is none.
    """
    if is_missing_folder(name_or_path):
        raise InputError(f"There is no folder {name_or_path}, so it holds no tokenizer.")
    folder = resolve_source(name_or_path, weights=False)
    if folder.is_dir() and not has_tokenizer(folder):
        raise InputError(
            f"{name_or_path} holds no tokenizer: neither tokenizer.json nor vocab.json with merges.txt, nor another"
            " vocabulary, is there."
        )
    _require_class(folder)
    with damage_told(f"{name_or_path} holds no tokenizer that can be read ({{}})."):
        tokenizer = _read_tokenizer(folder)
        _try(tokenizer, name_or_path)
    if len(tokenizer) < 2:  # transformers makes an empty one for a GPT-2 without tokenizer files
        raise InputError(
            f"{name_or_path} holds no tokenizer that can be read (its vocabulary is empty): if its files are not those"
            " of GPT-2's, name their class as tokenizer_class in tokenizer_config.json."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for how_it_was_loaded in ("is_local", "local_files_only"):  # transformers would save these with it
        tokenizer.init_kwargs.pop(how_it_was_loaded, None)
    return tokenizer


def _require_class(folder: Path) -> None:
    """
    Raises `InputError` for a config.json that cannot be meant, where transformers looks there for the class; and for
    a tokenizer_config.json that names a vocabulary outside of its folder.
    """
    named, config = folder / "tokenizer_config.json", folder / "config.json"
    settings = read_json_object(named) if named.is_file() else {}
    if config.is_file() and not settings.get("tokenizer_class"):
        require_sizes(read_json_object(config), config)
    files = settings.get("fast_tokenizer_files") or []
    if not (isinstance(files, list) and all(isinstance(name, str) and is_plain_name(name) for name in files)):
        raise InputError(f"The fast_tokenizer_files in {named} must be names of files beside it; delete them.")


def _try(tokenizer: PreTrainedTokenizerBase, name: str | os.PathLike) -> None:
    """Uses it once: what is wrong with a part of it may not be seen before. Raises nearly anything."""
    if not isinstance(tokenizer.model_max_length, int | float) or not tokenizer.model_max_length > 0:
        raise InputError(f"The tokenizer of {name} has a model_max_length that is no number; correct it.")
    template = tokenizer.chat_template
    templates = template.values() if isinstance(template, dict) else [] if template is None else [template]
    if not all(isinstance(one, str) for one in templates):
        raise InputError(f"The tokenizer of {name} has a chat_template that is no text; correct it.")
    ids = tokenizer("A word, 1 😀\n")["input_ids"]
    if not isinstance(tokenizer.decode(ids), str) or not all(type(token) is int for token in ids):
        raise ValueError("it does not turn a text into tokens")


def _read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """What AutoTokenizer loads; without any file that names a class, GPT-2's."""
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not held & {"tokenizer.json", "config.json", "tokenizer_config.json"} and "vocab.json" in held:
        if not held & {"special_tokens_map.json", "added_tokens.json"}:
            return gpt2_tokenizer(folder / "vocab.json", folder / "merges.txt")  # the two files alone
        return GPT2Tokenizer.from_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def fit_length(tokenizer: PreTrainedTokenizerBase, n_positions: int) -> PreTrainedTokenizerBase:
    """The tokenizer, which now cuts with `truncation=True` at what a model of so many positions can read."""
    tokenizer.model_max_length = min(tokenizer.model_max_length, n_positions)
    return tokenizer


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    individual_digits: bool = False,
    model_max_length: int = 1024,
    lowercase: bool = False,
) -> PreTrainedTokenizerFast:
    """
    A byte-level BPE tokenizer of at most `vocab_size` tokens, trained on `texts`. Any text can be encoded by it.

    Args:
        individual_digits: make every digit a token, so that numbers never seen before still look like numbers.
        lowercase: read "FREE", "Free" and "free" as the same tokens, wherever in a text they are: for classifiers,
            which then learn from fewer texts. Decoding gives lower case, after a space.

    Raises:
        InputError: when `vocab_size` leaves no room for the 256 bytes and the 2 special tokens.
    """
    if vocab_size < 258:
        raise InputError(f"A byte-level vocabulary needs at least 258 tokens, not {vocab_size}.")
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Prepend(" ")])
    steps = [pre_tokenizers.Digits(individual_digits=True)] if individual_digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_TOKEN, PAD_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_TOKEN,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
    )


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of its vocabulary's SHA-256 eight digits: where they are the same, perplexities per token can be compared."""
    return json_sha256(sorted(tokenizer.get_vocab().items()))[:8]
