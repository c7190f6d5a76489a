"""Small models of random weights, saved with a tokenizer of their own."""

from collections.abc import Sequence
from pathlib import Path

import torch

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.pretrained import record_reference_logits
from hf_gpt_scratch.tokenizer import train_tokenizer

TEXTS = ("the lamp on the hill", "a boat on the sea") * 5


def save_tokenizer(folder: Path, texts: Sequence[str], tokens: int, digits: bool = False, chat: str | None = None):
    """A tokenizer of so many tokens at most, and the keywords of a configuration that fit it."""
    tokenizer = train_tokenizer(texts, tokens, digits, 256)
    tokenizer.chat_template = chat
    tokenizer.save_pretrained(folder)
    ends = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    return {"vocab_size": len(tokenizer), **ends}


def save_model(folder: Path, model_class=GPTScratchForCausalLM, seed=0, texts=TEXTS, tokens=300, **settings) -> Path:
    """
    A model as the scripts leave it, with the answers that `check` compares.

    Args:
        settings: of the configuration, and `digits` and `chat` of `save_tokenizer`.
    """
    kept = {name: settings.pop(name) for name in ("digits", "chat") if name in settings}
    fitting = save_tokenizer(folder, texts, tokens, **kept)
    torch.manual_seed(seed)
    shape = {"n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    model_class(GPTScratchConfig(**{**shape, **fitting, **settings})).save_pretrained(folder)
    record_reference_logits(folder)
    return folder
