"""Small models to check and to push."""

from pathlib import Path

import torch

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.hub import reference_logits
from hf_gpt_scratch.tokenizer import train_tokenizer


def save_model(folder: Path, model_class=GPTScratchForCausalLM, seed: int = 0, **settings) -> Path:
    """A tiny model with its tokenizer, as the scripts leave it."""
    tokenizer = train_tokenizer(["the lamp on the hill", "a boat on the sea"] * 5, 300, False, 64)
    ends = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    torch.manual_seed(seed)
    shape = {"n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    config = GPTScratchConfig(vocab_size=len(tokenizer), **shape, **ends, **settings)
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    reference_logits.record(folder)
    return folder
