"""Tokenizers that are like those of other projects."""

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from hf_gpt_scratch.tokenizer import train_tokenizer

BOS, END = "<|begin|>", "<|endoftext|>"


def with_bos(texts, vocab_size: int = 400, adds_eos: bool = False, bos: str = BOS) -> PreTrainedTokenizerFast:
    """A tokenizer that puts the BOS token before every text, and perhaps the EOS token after it, as Llama's does."""
    tokenizer = train_tokenizer(texts, vocab_size)
    tokenizer.add_special_tokens({"bos_token": bos})
    parts = f"{bos} $A" + (f" {END}" if adds_eos else "")
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (bos, END)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(parts, f"{parts} $B", special)
    return tokenizer
