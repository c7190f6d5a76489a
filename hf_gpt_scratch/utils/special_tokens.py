"""
Which tokens end a text and which one begins it, for everything that reads, writes or learns text. Configurations and
tokenizers are those of transformers.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from .chat_template import render_template


def end_token_ids(config, generation_config=None, tokenizer=None) -> list[int]:
    """
    The tokens that end a text: those of the generation settings, as in transformers' `generate`, or else of the
    configuration; and the tokenizer's EOS token, which stands after every text that a model learns.

    Tokens that the model's vocabulary does not have are left out. So are those of the configuration that the tokenizer
    contradicts: it has another EOS token, and they are ordinary tokens to it. A configuration that nobody filled in
    says 50256, the EOS token of GPT-2's own vocabulary.

    Args:
        generation_config: the model's, if it has one.
        tokenizer: the model's, if it is known.
    """
    configured, own = token_ids(config.eos_token_id), token_ids(getattr(tokenizer, "eos_token_id", None))
    stated = token_ids(getattr(generation_config, "eos_token_id", None)) or configured
    if own and own[0] not in stated and set(stated) == set(configured):
        added = tokenizer.added_tokens_decoder
        stated = [token for token in stated if token in added and added[token].special]
    return [token for token in dict.fromkeys([*stated, *own]) if 0 <= token < config.vocab_size]


def token_ids(value: int | list[int] | None) -> list[int]:
    """The tokens of a setting that may be none, one or several."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def as_setting(ids: list[int]) -> int | list[int] | None:
    """Tokens as `token_ids` reads them."""
    return ids if len(ids) > 1 else ids[0] if ids else None


def learn_to_end(model, tokenizer) -> None:
    """Sets the tokens that end a text in both configurations of the model, for `generate` and to be saved with it."""
    ends = as_setting(end_token_ids(model.config, model.generation_config, tokenizer))
    for settings in (model.config, model.generation_config):
        if settings.eos_token_id != ends:
            settings.eos_token_id = ends


def beginning(tokenizer) -> list[int]:
    """The BOS token, where the tokenizer puts one before a text by itself; else nothing."""
    with_special, plain = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    bos = [tokenizer.bos_token_id]
    return bos if with_special[:1] == bos and plain[:1] != bos else []


def text_ids(tokenizer, text: str, split_special_tokens: bool = False) -> list[int]:
    """
    The tokens of a text that something follows: from its `beginning`, once, even where the BOS token is written in the
    text, and without an EOS token that the tokenizer may put after it.

    Args:
        split_special_tokens: read special tokens that are written in the text as plain characters.
    """
    read, begins = plain_ids if split_special_tokens else _ids, beginning(tokenizer)
    ids = read(tokenizer, text)
    return ids if ids[: len(begins)] == begins else begins + ids


def plain_ids(tokenizer, text: str) -> list[int]:
    """
    The tokens of a text that someone wrote, in which a special token, such as <|endoftext|>, is the characters that it
    is spelled with. Where the text has one, a copy of the tokenizer reads it: the flag `split_special_tokens` is a
    setting of the tokenizer, which other threads may be using.
    """
    if not any(token in text for token in special_texts(tokenizer)):
        return _ids(tokenizer, text)
    return _splitting_copy(tokenizer)(text, add_special_tokens=False, split_special_tokens=True, verbose=False)[
        "input_ids"
    ]


def special_texts(tokenizer) -> list[str]:
    """How the special tokens are spelled, the longest first."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted(special, key=lambda text: (-len(text), text))


def chat_ids(tokenizer, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """
    The tokens of a conversation up to where the next answer begins, as the chat template renders it: its own special
    tokens are tokens, and those that are spelled in a message are its characters.
    """
    special = special_texts(tokenizer)
    spelled = [text for text in special if any(text in one["content"] for one in messages)]
    if not spelled:
        return _ids(tokenizer, render_chat(tokenizer, messages))
    written = "".join(one["content"] for one in messages)
    free = (chr(number) for number in range(0xE000, 0xF8FF) if chr(number) not in written)  # for private use
    hidden = dict(zip(spelled, free))
    for text, character in hidden.items():
        messages = [{**one, "content": one["content"].replace(text, character)} for one in messages]
    ids = []
    for piece in re.split(f"({'|'.join(map(re.escape, special))})", render_chat(tokenizer, messages)):
        if piece in special:
            ids.append(tokenizer.convert_tokens_to_ids(piece))
            continue
        for text, character in hidden.items():
            piece = piece.replace(character, text)
        ids += plain_ids(tokenizer, piece)
    return ids


def render_chat(tokenizer, messages: Sequence[Mapping[str, str]]) -> str:
    """The text of a conversation up to where the next answer begins; raises as `render_template`."""
    return render_template(tokenizer, messages)


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


_COPIES = WeakKeyDictionary()


def _splitting_copy(tokenizer):
    size, copied = _COPIES.get(tokenizer, (None, None))
    if size != len(tokenizer):
        _COPIES[tokenizer] = size, copied = len(tokenizer), copy.deepcopy(tokenizer)
    return copied
