"""
Answers to many prompts, in batches: left-padded, with a cache of keys and values, prompts of similar length together.

transformers' `generate` keeps computing rows that have ended until the last row of the batch ends, and gives all rows
the same maximum length: beside a longer prompt, a row would be cut short or run past `n_positions`. Here the rows that
have ended make place for the next prompts, and each has its own maximum, so an answer does not depend on other rows.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..utils.special_tokens import end_token_ids
from .cache import GrowingCache
from .sampling import choose_tokens, penalize_repetition


@dataclass(frozen=True)
class Completion:
    """New tokens, without the EOS token, and why they end: "stop" at the EOS token, "length" at the maximum."""

    token_ids: list[int]
    finish_reason: str


def complete_prompts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int | Sequence[int],
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
        max_new_tokens: of all, or of each.
        batch_size: how many prompts are answered at the same time, which bounds the memory.
        temperature, top_k, top_p: as for `sampling.choose_tokens`; by default greedy.
        repetition_penalty: as for `sampling.penalize_repetition`.
        seed: plus the prompt's number, the seed of that prompt's generator.
        progress: called with the number of answers that have ended since.
        tokenizer: of the model, whose EOS token ends an answer too.

    Raises:
        ValueError: for a prompt that is empty or leaves no room in `n_positions`, or less than one token to generate.
    """
    limit = model.config.n_positions
    most = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    _check(prompts, limit, most)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    ends = end_token_ids(model.config, model.generation_config, tokenizer)
    rows = [
        _Row(prompt, min(tokens, limit - len(prompt)), seed + i)
        for i, (prompt, tokens) in enumerate(zip(prompts, most, strict=True))
    ]

    def take(logits: torch.Tensor, rows: list[_Row]) -> torch.Tensor:
        logits = penalize_repetition(logits, ([*row.prompt, *row.token_ids] for row in rows), repetition_penalty)
        generators = [row.generator for row in rows] if temperature else None
        tokens = choose_tokens(logits, **settings, generators=generators)
        for row, token in zip(rows, tokens.tolist()):
            row.take(token, ends)
        return tokens

    was_training = model.training
    model.eval()
    try:
        _complete(model, rows, batch_size, take, progress)
    finally:
        model.train(was_training)
    return [Completion(row.token_ids, row.finish_reason) for row in rows]


def _check(prompts: Sequence[Sequence[int]], limit: int, max_new_tokens: Sequence[int]) -> None:
    if min(max_new_tokens, default=1) < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {min(max_new_tokens)}.")
    for number, prompt in enumerate(prompts, start=1):
        if not 0 < len(prompt) < limit:
            raise ValueError(f"Prompt {number} has {len(prompt)} tokens; expected 1 to {limit - 1}.")


class _Row:
    """A prompt and the answer to it, as that grows."""

    def __init__(self, prompt: Sequence[int], room: int, seed: int):
        self.prompt, self.room, self.seed = prompt, room, seed
        self.token_ids: list[int] = []
        self.finish_reason: str | None = None

    @cached_property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def take(self, token: int, ends: Sequence[int]) -> None:
        """Adds a token, or ends the answer."""
        if token in ends:
            self.finish_reason = "stop"
            return
        self.token_ids.append(token)
        if len(self.token_ids) == self.room:
            self.finish_reason = "length"


@torch.inference_mode()
def _complete(
    model: PreTrainedModel, rows: list[_Row], batch_size: int, take: Callable, progress: Callable[[int], object]
) -> None:
    waiting = deque(sorted(rows, key=lambda row: len(row.prompt), reverse=True))  # what needs most memory comes first
    batch = None
    while waiting or batch:
        n_open = len(batch.open_rows()) if batch else 0
        # Rows leave and come in by a copy of the cache; so several at once, when a quarter of the batch has ended.
        if batch and n_open > 0.75 * len(batch.rows):
            batch.step(model, take)
            continue
        parts = [batch] if batch else []
        if waiting:
            new = [waiting.popleft() for _ in range(min(batch_size - n_open, len(waiting)))]
            parts.append(_Batch.of_prompts(new, model.device))
            parts[-1].step(model, take)
        batch = _Batch.joined(parts)
        progress(sum(len(part.rows) for part in parts) - (len(batch.rows) if batch else 0))


@dataclass
class _Batch:
    """
    Rows that are answered together; one that has ended stays among them until they are joined with the next.

    Attributes:
        tokens: what the model reads next, `(B, T)`: the prompts, later the newest token of each row.
        mask: 1 for real tokens and 0 for padding, `(B, S + T)`: of those in the cache and then of `tokens`.
    """

    rows: list[_Row]
    tokens: torch.Tensor
    mask: torch.Tensor
    cache: GrowingCache

    @classmethod
    def of_prompts(cls, rows: list[_Row], device: torch.device) -> "_Batch":
        longest = max(len(row.prompt) for row in rows)
        # The padding's token ids do not matter, as the mask hides them.
        ids = torch.tensor([[0] * (longest - len(row.prompt)) + list(row.prompt) for row in rows])
        mask = torch.tensor([[0] * (longest - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
        return cls(rows, ids.to(device), mask.to(device), GrowingCache())

    @classmethod
    def joined(cls, parts: Sequence["_Batch"]) -> "_Batch | None":
        """The open rows of several batches, after a step of each, in one; `None` where none is open."""
        chosen = [(part, torch.tensor(part.open_rows(), device=part.mask.device)) for part in parts]
        chosen = [(part, index) for part, index in chosen if len(index)]
        if not chosen:
            return None
        lengths = [int(part.mask[index].sum(1).max()) for part, index in chosen]
        masks = [part.mask[index, -length:] for (part, index), length in zip(chosen, lengths)]
        return cls(
            [part.rows[i] for part, index in chosen for i in index.tolist()],
            torch.cat([part.tokens[index] for part, index in chosen]),
            torch.cat([functional.pad(mask, (max(lengths) - mask.shape[1], 0)) for mask in masks]),
            # the newest token is not in the cache yet
            GrowingCache.of_rows([(part.cache, index, length - 1) for (part, index), length in zip(chosen, lengths)]),
        )

    def open_rows(self) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row.finish_reason is None]

    def step(self, model: PreTrainedModel, take: Callable) -> None:
        """One more token for each open row."""
        logits = model(
            self.tokens, attention_mask=self.mask, past_key_values=self.cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]  # (B, V)
        index = self.open_rows()
        self.tokens = self.tokens.new_zeros(len(self.rows), 1)
        self.tokens[index, 0] = take(logits[index], [self.rows[i] for i in index])
        # What comes after the end of a row does not count, or its positions would run past n_positions.
        is_open = self.mask.new_tensor([[int(row.finish_reason is None)] for row in self.rows])
        self.mask = torch.cat([self.mask, is_open], dim=1)
