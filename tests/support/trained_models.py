"""Tiny models trained in seconds on a text that is easy only for a model that attends as it was trained to."""

import random

import torch
from torch.nn import functional as F

from hf_gpt_scratch.tokenizer import train_tokenizer

LETTERS = "abcdefghijklmnopqrstuv"


def repeating_text(characters: int, longest: int) -> str:
    """Lines of some random letters and, after a semicolon, the same letters again."""
    rng, lines = random.Random(0), []
    while sum(map(len, lines)) < characters:
        letters = "".join(rng.choices(LETTERS, k=rng.randint(3, longest)))
        lines.append(f"{letters};{letters}\n")
    return "".join(lines)


def character_tokenizer():
    """One token a byte: no room for merges."""
    return train_tokenizer([LETTERS], 258)


def narrow(model, window: int, without: tuple[int, ...] = ()) -> None:
    """Cuts the causal masks of the book's model, as they are true where a token may not look, to a sliding window."""
    for i, block in enumerate(model.trf_blocks):
        if i not in without:
            mask = block.att.mask
            mask += torch.ones_like(mask).tril(-window)


def train(model: torch.nn.Module, ids: list[int], steps: int = 400, lr: float = 6e-3) -> torch.nn.Module:
    """Some steps on random rows of 32 tokens; the model's forward gives logits, or a stock GPT-2's output."""
    optimizer, generator = torch.optim.AdamW(model.parameters(), lr=lr), torch.Generator().manual_seed(0)
    length, tokens = 32, torch.tensor(ids)
    with torch.enable_grad():
        for _ in range(steps):
            starts = torch.randint(len(tokens) - length, (16,), generator=generator)
            rows = torch.stack([tokens[start : start + length] for start in starts])
            output = model(rows)
            logits = output if isinstance(output, torch.Tensor) else output.logits
            F.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten()).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()
