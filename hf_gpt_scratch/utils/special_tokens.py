"""
Which tokens end a text and which one begins it, for everything that reads, writes or learns text. Configurations and
tokenizers are those of transformers.
"""


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
    options = {"split_special_tokens": True} if split_special_tokens else {}
    ids, begins = (
        tokenizer(text, add_special_tokens=False, verbose=False, **options)["input_ids"],
        beginning(tokenizer),
    )
    return ids if ids[: len(begins)] == begins else begins + ids
