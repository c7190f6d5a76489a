"""Words that are left out while training: whole ones, as often as asked for, and never all of them."""

import torch
from datasets import Dataset

from hf_gpt_scratch.data.word_dropout import WordDropout
from hf_gpt_scratch.tokenizer import train_tokenizer

TEXT = "win a fabulous prize worth 9000 pounds\nand call us now"


def rows(probability: float, text: str = TEXT):
    tokenizer = train_tokenizer([TEXT], 270, True, 64)  # too few tokens for whole words
    encoded = Dataset.from_list([{"text": text, "label": 1, **tokenizer(text)}])
    return WordDropout(encoded, tokenizer, probability), tokenizer, encoded[0]


def test_whole_words_are_left_out():
    dropped, tokenizer, whole = rows(0.3)
    assert len(whole["input_ids"]) > len(TEXT.split()) + 5
    torch.manual_seed(0)
    seen = [dropped[0] for _ in range(300)]
    words = set(TEXT.split())
    for row in seen:
        assert set(tokenizer.decode(row["input_ids"]).split()) <= words
        assert len(row["attention_mask"]) == len(row["input_ids"]) and row["label"] == 1
    kept = sum(len(tokenizer.decode(row["input_ids"]).split()) for row in seen) / (300 * len(TEXT.split()))
    assert 0.65 < kept < 0.75
    torch.manual_seed(0)
    assert dropped[0] == seen[0]


def test_a_message_never_loses_all_its_words():
    dropped, _, whole = rows(0.9, "now")
    assert all(dropped[0]["input_ids"] == whole["input_ids"] for _ in range(20))


def test_columns_are_those_of_the_whole_rows():
    dropped, _, whole = rows(0.5)
    assert dropped["input_ids"][0] == whole["input_ids"] and len(dropped) == 1


def test_the_rows_of_a_batch_are_those_read_one_by_one(monkeypatch):
    dropped, _, _ = rows(0.5)
    dropped.rows = Dataset.from_list([dropped.rows[0] | {"label": label} for label in range(4)])
    torch.manual_seed(0)
    singly = [dropped[number] for number in (2, 0, 3)]
    torch.manual_seed(0)
    assert dropped.__getitems__([2, 0, 3]) == singly
    read = []
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: read.append(key) or self._getitem(key))
    [batch] = torch.utils.data.DataLoader(dropped, sampler=[2, 0, 3], batch_size=3, collate_fn=list)
    assert [row["label"] for row in batch] == [2, 0, 3] and read == [[2, 0, 3]]  # one look-up for all
