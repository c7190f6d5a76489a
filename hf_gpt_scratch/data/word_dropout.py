"""Word dropout: a message reads a little different each time it is trained on."""

import numpy as np
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerBase

from .draws import draws

Key = tuple[int, int]  # an epoch, and the number of a row


class WordDropout(TorchDataset):
    """
    Tokenized rows from which each word is omitted with `probability` whenever they are read; a row that would lose
    all of them stays whole (Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", section 3.1). Rows are read by `(epoch, number)`, which decides with the seed which words are
    omitted (`draws`).

    Args:
        rows: with columns `input_ids`, `attention_mask` and others, which stay as they are.
        tokenizer: a byte-level BPE, whose words begin with a space's byte.
    """

    def __init__(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, probability: float, seed: int):
        self.rows, self.probability, self.seed = rows, probability, seed
        tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.begins_word = np.array([token[0] in "ĠĊĉ" for token in tokens])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key | str):
        """A row, or a whole column (of undisturbed rows) where `key` is its name."""
        if isinstance(key, str):
            return self.rows[key]
        epoch, number = key
        return self._omit_words(self.rows[number], epoch, number)

    def __getitems__(self, keys: list[Key]) -> list[dict]:
        """The rows of a batch, which a DataLoader asks for together: read one by one they take twice the time."""
        rows = self.rows.__getitems__([number for _, number in keys])
        return [self._omit_words(row, *key) for row, key in zip(rows, keys)]

    def _omit_words(self, row: dict, epoch: int, number: int) -> dict:
        ids = np.array(row["input_ids"])
        words = self.begins_word[ids].cumsum()  # (T,): the number of each token's word
        is_kept = draws(self.seed, epoch, number).random(words[-1] + 1) >= self.probability
        kept = ids[is_kept[words]].tolist()
        return row if not kept else {**row, "input_ids": kept, "attention_mask": [1] * len(kept)}
