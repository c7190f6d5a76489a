"""
Rows of several documents each, without padding, and the collator that makes batches of these and of ordinary rows.

A packed row has `position_ids` that start again from 0 at each document and no attention mask: the model's sign
that the documents do not see each other, on plain SDPA, on a CPU as on any GPU.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

IGNORED = -100  # the label that cross-entropy passes over


def pack(rows: Iterable[Mapping[str, Sequence[int]]], max_length: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """
    Lays whole documents side by side into rows of at most `max_length` tokens: best-fit decreasing (Ding et al. 2024,
    "Fewer Truncations Improve Language Modeling"), which puts the longest first, each where it leaves the least space.

    Args:
        rows: the documents, each with `input_ids` and perhaps `labels`, without which every token is learned. No
            document is cut: the longest may have `max_length` tokens.
        seed: decides the order of the rows and which of the documents of a length go together.

    Returns:
        rows of `input_ids`, `labels` and `position_ids`, lists of the same length. The first label of each document is
        ignored, as nothing of its own stands before it to predict it from.

    Raises:
        ValueError: for a document that is empty, or longer than `max_length`.
    """
    documents = list(rows)
    for number, document in enumerate(documents, start=1):
        if not 0 < len(document["input_ids"]) <= max_length:
            raise ValueError(
                f"Document {number} has {len(document['input_ids'])} tokens; a row takes 1 to {max_length}."
            )
    shuffle = random.Random(seed).shuffle
    shuffle(documents)
    documents.sort(key=lambda document: len(document["input_ids"]), reverse=True)
    bins_by_space: dict[int, list[list]] = {}
    spaces: list[int] = []  # the keys above, sorted
    bins = []
    for document in documents:
        length = len(document["input_ids"])
        place = bisect_left(spaces, length)
        if place == len(spaces):  # it fits in none
            space, bin = max_length, []
            bins.append(bin)
        else:
            space = spaces[place]
            bin = bins_by_space[space].pop()
            if not bins_by_space[space]:
                del bins_by_space[space], spaces[place]
        bin.append(document)
        if space - length not in bins_by_space:
            bins_by_space[space - length] = []
            insort(spaces, space - length)
        bins_by_space[space - length].append(bin)
    shuffle(bins)
    return [_side_by_side(bin) for bin in bins]


def _side_by_side(documents: list[Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    row = {"input_ids": [], "labels": [], "position_ids": []}
    for document in documents:
        ids = document["input_ids"]
        row["input_ids"] += ids
        row["labels"] += [IGNORED, *document.get("labels", ids)[1:]]
        row["position_ids"] += range(len(ids))
    return row


@dataclass
class LanguageModelCollator:
    """
    Batches of rows with `input_ids` and `labels`, padded on the right to the longest. Padding gets the label -100 by
    its position, never by its id, which may be the EOS token's.

    Ordinary rows get an `attention_mask`. Packed ones, told by their `position_ids`, must not have one: there the
    padding is a document of its own, which nothing is learned from and no other document sees. With `join_packed` they
    come as one row without padding, for an attention that costs no more for it (`training.document_attention`).
    """

    pad_token_id: int
    join_packed: bool = False

    def __call__(self, rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.LongTensor]:
        """
        The batch: `input_ids`, `labels` and `attention_mask` or `position_ids`, each `(B, T)`, or `(1, all tokens)`
        when packed rows are joined.
        """
        if self.join_packed and "position_ids" in rows[0]:
            names = ("input_ids", "labels", "position_ids")
            return {name: torch.tensor([list(chain.from_iterable(row[name] for row in rows))]) for name in names}
        length = max(len(row["input_ids"]) for row in rows)
        columns: dict[str, list] = {"input_ids": [], "labels": []}
        told_by = "position_ids" if "position_ids" in rows[0] else "attention_mask"
        columns[told_by] = []
        for row in rows:
            real = len(row["input_ids"])
            padding = length - real
            columns["input_ids"].append([*row["input_ids"], *[self.pad_token_id] * padding])
            columns["labels"].append([*row["labels"], *[IGNORED] * padding])
            if told_by == "position_ids":
                columns[told_by].append([*row[told_by], *range(padding)])
            else:
                columns[told_by].append([1] * real + [0] * padding)
        return {name: torch.tensor(values) for name, values in columns.items()}
