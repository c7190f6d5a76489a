"""Word dropout: a message reads a little different each time it is trained on."""

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase


class WordDropout(torch.utils.data.Dataset):
    """
    Tokenized rows from which each word is omitted with `probability` whenever they are read; a row that would lose
    all of them stays whole (Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", section 3.1). Draws from torch's global randomness, as dropout does.

    Args:
        rows: with columns `input_ids`, `attention_mask` and others, which stay as they are.
        tokenizer: a byte-level BPE, whose words begin with a space's byte.
    """

    def __init__(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, probability: float):
        self.rows, self.probability = rows, probability
        tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.begins_word = torch.tensor([token[0] in "ĠĊĉ" for token in tokens])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key):
        """A row, or a whole column (of undisturbed rows) where `key` is its name."""
        if isinstance(key, str):
            return self.rows[key]
        return self._omit_words(self.rows[key])

    def __getitems__(self, numbers: list[int]) -> list[dict]:
        """The rows of a batch, which a DataLoader asks for together: read one by one they take twice the time."""
        return [self._omit_words(row) for row in self.rows.__getitems__(numbers)]

    def _omit_words(self, row: dict) -> dict:
        ids = torch.tensor(row["input_ids"])
        words = self.begins_word[ids].cumsum(0)  # (T,): the number of each token's word
        is_kept = torch.rand(int(words[-1]) + 1) >= self.probability
        kept = ids[is_kept[words]].tolist()
        return row if not kept else {**row, "input_ids": kept, "attention_mask": [1] * len(kept)}
