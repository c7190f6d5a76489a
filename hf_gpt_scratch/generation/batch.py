"""
Answers to many prompts, in batches: left-padded, with a cache of keys and values, prompts of similar length together.

transformers' `generate` keeps computing rows that have ended until the last row of the batch ends, and gives all rows
the same maximum length: beside a longer prompt, a row would be cut short or run past `n_positions`. Here a row leaves
the batch when it ends and has its own maximum, so an answer does not depend on the other rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from ..utils.special_tokens import end_token_ids
from .sampling import choose_tokens, penalize_repetition


@dataclass(frozen=True)
class Completion:
    """New tokens, without the EOS token, and why they end: "stop" at the EOS token, "length" at the maximum."""

    token_ids: list[int]
    finish_reason: str


def complete_prompts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int = 32,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    progress: Callable[[int], object] = lambda answered: None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[Completion]:
    """
    What the model writes after each prompt, in order: up to `max_new_tokens` tokens, the EOS token, or `n_positions`.

    Args:
        prompts: the token ids of each.
        temperature, top_k, top_p: as for `sampling.choose_tokens`; by default greedy.
        repetition_penalty: as for `sampling.penalize_repetition`.
        seed: plus the prompt's number, the seed of that prompt's generator.
        progress: called after each batch with the number of its prompts.
        tokenizer: of the model, whose EOS token ends an answer too.

    Raises:
        ValueError: for a prompt that is empty or leaves no room in `n_positions`, or less than one token to generate.
    """
    limit = model.config.n_positions
    _check(prompts, limit, max_new_tokens)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}

    def choose(logits: torch.Tensor, rows: list[_Row]) -> torch.Tensor:
        seen = ([*prompts[row.number], *row.token_ids] for row in rows)
        logits = penalize_repetition(logits, seen, repetition_penalty)
        return choose_tokens(logits, **settings, generators=[row.generator for row in rows])

    ends = end_token_ids(model.config, model.generation_config, tokenizer)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    completions: list[Completion | None] = [None] * len(prompts)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            rows = [
                _Row(i, min(max_new_tokens, limit - len(prompts[i])), torch.Generator().manual_seed(seed + i))
                for i in numbers
            ]
            _complete(model, [prompts[i] for i in numbers], rows, choose, ends)
            for row in rows:
                completions[row.number] = Completion(row.token_ids, row.finish_reason)
            progress(len(numbers))
    finally:
        model.train(was_training)
    return completions


def _check(prompts: Sequence[Sequence[int]], limit: int, max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}.")
    for number, prompt in enumerate(prompts, start=1):
        if not 0 < len(prompt) < limit:
            raise ValueError(f"Prompt {number} has {len(prompt)} tokens; expected 1 to {limit - 1}.")


class _Row:
    """The answer to a prompt, as it grows."""

    def __init__(self, number: int, room: int, generator: torch.Generator):
        self.number, self.room, self.generator = number, room, generator
        self.token_ids: list[int] = []
        self.finish_reason = "length"

    def take(self, token: int, ends: Sequence[int]) -> bool:
        """Adds a token and says whether the answer continues."""
        if token in ends:
            self.finish_reason = "stop"
            return False
        self.token_ids.append(token)
        return len(self.token_ids) < self.room


@torch.inference_mode()
def _complete(
    model: PreTrainedModel, prompts: list[Sequence[int]], rows: list[_Row], choose: Callable, ends: Sequence[int]
) -> None:
    longest = max(map(len, prompts))
    # (B, T); the padding's token ids do not matter, as the mask hides them
    input_ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    input_ids, mask = input_ids.to(model.device), mask.to(model.device)
    cache = DynamicCache(config=model.config)
    while rows:
        logits = model(input_ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[
            :, -1
        ]  # (B, V)
        tokens = choose(logits, rows)  # (B,)
        kept = [i for i, (row, token) in enumerate(zip(rows, tokens.tolist())) if row.take(token, ends)]
        if len(kept) < len(rows):
            rows = [rows[i] for i in kept]
            index = torch.tensor(kept, dtype=torch.long, device=mask.device)
            tokens, mask = tokens[index], mask[index]
            cache.batch_select_indices(index)
        input_ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
