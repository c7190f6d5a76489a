"""Packed rows: every document whole and once, little space left, and the loss of documents that stand alone."""

import random

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.data.packing import LanguageModelCollator, pack


def documents(count: int, longest: int, seed: int = 0) -> list[dict]:
    """Documents of random lengths; each ends in 0, which is the padding's id too."""
    draw = random.Random(seed)
    return [
        {"input_ids": [draw.randrange(1, 100) for _ in range(draw.randrange(1, longest))] + [0]} for _ in range(count)
    ]


def unpack(row: dict) -> list[tuple[int, ...]]:
    starts = [i for i, position in enumerate(row["position_ids"]) if position == 0]
    return [tuple(row["input_ids"][start:end]) for start, end in zip(starts, [*starts[1:], None])]


def test_every_document_is_whole_and_once_and_little_space_is_left():
    rows = documents(500, longest=60)
    packed = pack(rows, max_length=64)
    assert sorted(ids for row in packed for ids in unpack(row)) == sorted(tuple(row["input_ids"]) for row in rows)
    tokens = sum(len(row["input_ids"]) for row in rows)
    assert all(len(row["input_ids"]) <= 64 for row in packed) and len(packed) <= 1.03 * tokens / 64
    for row in packed:
        assert len(row["input_ids"]) == len(row["labels"]) == len(row["position_ids"])
        for token, label, position in zip(row["input_ids"], row["labels"], row["position_ids"]):
            assert label == (-100 if position == 0 else token)


def test_the_seed_decides_the_rows():
    rows = documents(50, longest=60)
    assert pack(rows, 64, seed=1) == pack(rows, 64, seed=1) != pack(rows, 64, seed=2)
    lengths = [max(map(len, unpack(row))) for row in pack(rows, 64)]
    assert lengths != sorted(lengths, reverse=True)  # long documents are not all read first


def test_labels_travel_with_their_document():
    rows = [{"input_ids": [5, 6, 7, 0], "labels": [-100, -100, 7, 0]}, {"input_ids": [8, 9], "labels": [8, 9]}]
    (row,) = pack(rows, 6)
    assert row["input_ids"] == [5, 6, 7, 0, 8, 9] and row["labels"] == [-100, -100, 7, 0, -100, 9]


@pytest.mark.parametrize("length", [0, 65])
def test_a_document_that_fits_no_row_is_named(length):
    with pytest.raises(ValueError, match=f"Document 2 has {length} tokens"):
        pack([{"input_ids": [1]}, {"input_ids": [1] * length}], 64)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_that_of_documents_that_stand_alone(attention, training, tiny_config):
    tiny_config._attn_implementation = attention
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(tiny_config).train(training)
    rows = documents(20, longest=40)
    for row in rows:
        row["labels"] = [-100, *row["input_ids"][1:]]
    collate = LanguageModelCollator(pad_token_id=0)
    packed, padded = collate(pack(rows, 64)), collate(rows)
    assert "attention_mask" not in packed and packed["input_ids"].numel() < 0.8 * padded["input_ids"].numel()

    counted = sum(len(row["input_ids"]) - 1 for row in rows)
    assert (packed["labels"] != -100).sum() == (padded["labels"] != -100).sum() == counted
    with torch.set_grad_enabled(training):
        alone = sum(model(**collate([row])).loss * (len(row["input_ids"]) - 1) for row in rows) / counted
        for batch in (packed, padded):
            torch.testing.assert_close(model(**batch).loss, alone, atol=1e-5, rtol=0)


def test_the_collator_pads_by_position():
    rows = [{"input_ids": [1, 0, 2, 0], "labels": [-100, 0, 2, 0]}, {"input_ids": [3, 0], "labels": [-100, 0]}]
    batch = LanguageModelCollator(pad_token_id=0)(rows)
    assert batch["input_ids"].tolist() == [[1, 0, 2, 0], [3, 0, 0, 0]]
    assert batch["labels"].tolist() == [
        [-100, 0, 2, 0],
        [-100, 0, -100, -100],
    ]  # the end token stays, padding does not
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
