"""Words that are left out while training: whole ones, as often as asked for, and never all of them."""

import torch
from datasets import Dataset

from hf_gpt_scratch.data.word_dropout import WordDropout
from hf_gpt_scratch.tokenizer import train_tokenizer

TEXT = "win a fabulous prize worth 9000 pounds\nand call us now"


def rows(probability: float, text: str = TEXT, seed: int = 0):
    tokenizer = train_tokenizer([TEXT], 270, True, 64)  # too few tokens for whole words
    encoded = Dataset.from_list([{"text": text, "label": 1, **tokenizer(text)}])
    return WordDropout(encoded, tokenizer, probability, seed), tokenizer, encoded[0]


def test_whole_words_are_left_out():
    dropped, tokenizer, whole = rows(0.3)
    assert len(whole["input_ids"]) > len(TEXT.split()) + 5
    seen = [dropped[epoch, 0] for epoch in range(300)]
    words = set(TEXT.split())
    for row in seen:
        assert set(tokenizer.decode(row["input_ids"]).split()) <= words
        assert len(row["attention_mask"]) == len(row["input_ids"]) and row["label"] == 1
    kept = sum(len(tokenizer.decode(row["input_ids"]).split()) for row in seen) / (300 * len(TEXT.split()))
    assert 0.65 < kept < 0.75


def test_seed_epoch_and_row_alone_decide_which():
    dropped, _, whole = rows(0.5)
    dropped.rows = Dataset.from_list([whole] * 3)

    def read(*keys, of=dropped):
        return [of[key]["input_ids"] for key in keys]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    there, back = read((4, 0), (4, 1), (5, 0)), read((5, 0), (4, 1), (4, 0))
    assert there == back[::-1] and len({tuple(ids) for ids in there}) == 3
    assert torch.equal(torch.get_rng_state(), state)  # that of the dropout, which a loader that reads ahead would move
    assert read((4, 0), of=rows(0.5, seed=1)[0]) != there[:1]


def test_a_message_never_loses_all_its_words():
    dropped, _, whole = rows(0.9, "now")
    assert all(dropped[epoch, 0]["input_ids"] == whole["input_ids"] for epoch in range(20))


def test_columns_are_those_of_the_whole_rows():
    dropped, _, whole = rows(0.5)
    assert dropped["input_ids"][0] == whole["input_ids"] and len(dropped) == 1


def test_the_rows_of_a_batch_are_those_read_one_by_one(monkeypatch):
    dropped, _, _ = rows(0.5)
    dropped.rows = Dataset.from_list([dropped.rows[0] | {"label": label} for label in range(4)])
    keys = [(1, 2), (1, 0), (1, 3)]
    assert dropped.__getitems__(keys) == [dropped[key] for key in keys]
    read = []
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: read.append(key) or self._getitem(key))
    [batch] = torch.utils.data.DataLoader(dropped, sampler=keys, batch_size=3, collate_fn=list)
    assert [row["label"] for row in batch] == [2, 0, 3] and read == [[2, 0, 3]]  # one look-up for all
