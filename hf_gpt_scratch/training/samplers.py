"""The order in which training rows are read."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler, SequentialSampler

from ..data.word_dropout import Key, WordDropout
from .trainer import ScratchTrainer


class LengthGroupedSampler(Sampler[int]):
    """
    Row indices in which each batch of `batch_size` has rows of similar length, to save padding; the batches are in
    random order.

    transformers' sampler of this name reads from long rows to short ones again and again. Where length
    predicts the label, as it does for spam, a model then sees one class after the other.

    Args:
        lengths: the length of each row.
        seed: with the epoch (`set_epoch`), decides the order, so that a resumed run reads on where it stopped.
        pool: batches are cut from so many batches' worth of random rows; more of it pads less, but mixes less.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, pool: int = 30):
        self.lengths, self.batch_size, self.seed, self.pool = lengths, batch_size, seed, pool
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer at the start of every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator).tolist()
        # What does not fill a batch comes last: a short batch elsewhere would shift all that follow it.
        whole = len(rows) - len(rows) % self.batch_size
        batches = []
        for start in range(0, whole, self.batch_size * self.pool):
            pooled = sorted(
                rows[start : min(start + self.batch_size * self.pool, whole)], key=self.lengths.__getitem__
            )
            batches += [pooled[i : i + self.batch_size] for i in range(0, len(pooled), self.batch_size)]
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[i]
        yield from rows[whole:]


class KeyedSampler(LengthGroupedSampler):
    """The same rows for data whose draws depend on the epoch, each as `(epoch, number)`."""

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch
        return ((epoch, number) for number in super().__iter__())


class LengthGroupedTrainer(ScratchTrainer):
    """A trainer that reads its training rows by `LengthGroupedSampler`; they have a column `input_ids`."""

    def _get_train_sampler(self, train_dataset=None) -> LengthGroupedSampler:
        """Also of rows with word dropout, which are read by epoch and number."""
        rows = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(ids) for ids in rows["input_ids"]]
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        kind = KeyedSampler if isinstance(rows, WordDropout) else LengthGroupedSampler
        return kind(lengths, self.args.train_batch_size, seed)

    def _get_eval_sampler(self, eval_dataset) -> SequentialSampler:
        # In order whatever `train_sampling_strategy` says: Trainer would return predictions in another one.
        return SequentialSampler(eval_dataset)
