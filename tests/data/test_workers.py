"""A DataLoader's workers where they are started anew (macOS, Windows, Linux from Python 3.14): they read the same."""

import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_gpt_scratch.data.packing import LanguageModelCollator
from hf_gpt_scratch.data.rows import PackedDocuments, StreamedRows, Windows
from hf_gpt_scratch.data.text import load_text, split, tokenize
from hf_gpt_scratch.data.word_dropout import WordDropout
from hf_gpt_scratch.tokenizer import train_tokenizer

STORY = Path(__file__).parents[2] / "training" / "demo_data" / "story.txt"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([STORY.read_text()], 400)


def sent(value):
    """What a worker gets that shares no memory with the process that started it."""
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("packing", ["windows", "documents"])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_rows_to_pretrain_on(tokenizer, packing, is_streamed):
    layout = Windows(8, 8) if packing == "windows" else PackedDocuments(16, tokenizer.eos_token_id)
    collate = layout.collate if packing == "windows" else LanguageModelCollator(tokenizer.pad_token_id)
    train, _, _ = split(load_text(STORY), 0.1, is_streamed, 1000)
    if is_streamed:
        rows = StreamedRows(train, tokenizer, layout, buffer=3, seed=1)
        batches = [list(islice(one, 6)) for one in (rows, sent(rows))]
    else:
        rows = layout.in_memory(tokenize(train, tokenizer))
        batches = [[one[number] for number in range(6)] for one in (rows, sent(rows))]
    here, there = collate(batches[0]), sent(collate)(batches[1])
    assert here.keys() == there.keys() and here["input_ids"].numel() >= 48
    assert all(np.array_equal(here[name], there[name]) for name in here)


def test_messages_with_word_dropout(tokenizer):
    texts = ["The story of a small model that learned to read in one night"] * 5
    encoded = Dataset.from_list([{"label": 1, **tokenizer(text)} for text in texts])
    rows = WordDropout(encoded, tokenizer, 0.3, seed=1)
    keys = [(2, number) for number in range(5)]
    assert sent(rows).__getitems__(keys) == rows.__getitems__(keys)
    assert any(len(row["input_ids"]) < len(encoded[0]["input_ids"]) for row in rows.__getitems__(keys))
