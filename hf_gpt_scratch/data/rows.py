"""
The rows that a language model trains on: windows that slide over a text, or packed documents.

A small text is kept in memory as token ids and shuffled whole, as in "Build a Large Language Model (From Scratch)",
chapter 5; a large one is tokenized during training and shuffled within a buffer.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from ..utils.errors import InputError, UsageError
from .packing import pack
from .text import Part, tokenize


@dataclass(frozen=True)
class Windows:
    """
    Rows that slide over the text, documents and all: `max_length` tokens and the one after each, `(max_length + 1,)`;
    the next row begins `stride` tokens later. Tokens left over at the end are dropped, as in the book.

    Raises:
        UsageError: for a stride that would skip tokens.
    """

    max_length: int
    stride: int

    def __post_init__(self):
        if not 1 <= self.stride <= self.max_length:
            raise UsageError(f"stride must be 1 to {self.max_length}, the length of a window, not {self.stride}.")

    def rows(self, blocks: Iterable[np.ndarray], seed: int = 0) -> Iterator[np.ndarray]:
        """The rows of blocks of token ids, which follow on each other."""
        rest = np.array([], dtype=np.int32)
        for block in blocks:
            ids = np.concatenate([rest, block])
            windows = WindowsInMemory(ids, self)
            yield from (windows[i].copy() for i in range(len(windows)))  # a view would keep the whole block in memory
            rest = ids[len(windows) * self.stride :]

    def in_memory(self, blocks: Iterable[np.ndarray]) -> Dataset:
        """All rows, in memory: the ids once, whatever the stride."""
        return WindowsInMemory(np.concatenate([np.array([], dtype=np.int32), *blocks]), self)

    def collate(self, rows: Sequence[np.ndarray]) -> dict[str, torch.LongTensor]:
        """A batch in which each of the `(B, max_length)` tokens has the one after it as its target."""
        ids = torch.from_numpy(np.stack(rows).astype(np.int64))
        input_ids = ids[:, :-1].contiguous()
        return {"input_ids": input_ids, "labels": input_ids, "shift_labels": ids[:, 1:].contiguous()}


class WindowsInMemory(Dataset):
    """The windows of token ids in memory, by number."""

    def __init__(self, ids: np.ndarray, windows: Windows):
        self.ids, self.length = ids, windows.max_length + 1
        self.starts = range(0, len(ids) - windows.max_length, windows.stride)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> np.ndarray:
        start = self.starts[number]
        return self.ids[start : start + self.length]


@dataclass(frozen=True)
class PackedDocuments:
    """
    Rows that hold documents side by side which do not see each other, by `data.packing`; a document of more than
    `max_length` tokens is cut.
    """

    max_length: int
    eos_token_id: int

    def rows(self, blocks: Iterable[np.ndarray], seed: int = 0) -> Iterator[dict]:
        """The rows of blocks of token ids, the documents of a block packed with each other."""
        for block in blocks:
            ends = np.flatnonzero(block == self.eos_token_id) + 1
            documents = [
                document[i : i + self.max_length].tolist()
                for document in np.split(block, ends)
                for i in range(0, len(document) - 1, self.max_length)  # a single last token has no target
            ]
            yield from pack([{"input_ids": document} for document in documents], self.max_length, seed)

    def in_memory(self, blocks: Iterable[np.ndarray]) -> list[dict]:
        """All rows, in memory, all documents packed with each other."""
        return list(self.rows([np.concatenate([np.array([], dtype=np.int32), *blocks])]))


class StreamedRows(IterableDataset):
    """
    The rows of a part, tokenized as they are needed, without end: after the last character the first one follows.

    Each row is drawn from a buffer of `buffer` rows. `seed` and the number of the pass decide which, so that a resumed
    run, for which Trainer reads over the rows it has seen, continues with the same. However many workers DataLoader
    has, the first one reads and tokenizes everything, so that the order is that without workers; with several
    processes, accelerate lets the first one read for all.

    Raises:
        InputError: when the part has not enough text for a row.
    """

    def __init__(
        self, part: Part, tokenizer: PreTrainedTokenizerBase, layout: Windows | PackedDocuments, buffer: int, seed: int
    ):
        self.part, self.tokenizer, self.layout, self.buffer, self.seed = part, tokenizer, layout, buffer, seed
        if next(self._pass(0), None) is None:
            raise InputError(
                f"The training part of {part.text.source} is shorter than {layout.max_length} tokens; give more text"
                " or a smaller --max_length."
            )

    def __iter__(self) -> Iterator:
        worker = get_worker_info()
        if worker and worker.id:
            return
        for number in count():
            draw = random.Random(f"{self.seed}, {number}, 0")
            waiting = []
            for row in self._pass(number):
                if len(waiting) < self.buffer:
                    waiting.append(row)
                else:
                    chosen = draw.randrange(len(waiting))
                    yield waiting[chosen]
                    waiting[chosen] = row
            draw.shuffle(waiting)
            yield from waiting

    def _pass(self, number: int) -> Iterator:
        return self.layout.rows(tokenize(self.part, self.tokenizer), self.seed + number)
