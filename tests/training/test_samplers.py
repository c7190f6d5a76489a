"""Batches of like length, each row once an epoch, in an order that seed and epoch decide."""

import pytest

from hf_gpt_scratch.training.samplers import KeyedSampler, LengthGroupedSampler

LENGTHS = [(17 * i) % 101 + 1 for i in range(403)]


def batches(sampler: LengthGroupedSampler) -> list[list[int]]:
    rows = list(sampler)
    return [rows[i : i + sampler.batch_size] for i in range(0, len(rows), sampler.batch_size)]


def test_every_row_is_read_once():
    sampler = LengthGroupedSampler(LENGTHS, batch_size=8, seed=0)
    assert sorted(sampler) == list(range(403)) and len(sampler) == 403


def test_seed_and_epoch_decide_the_order():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = LengthGroupedSampler(LENGTHS, batch_size=8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3) != order(2, 3)


def test_little_is_padded():
    def padding(rows: list[list[int]]) -> int:
        return sum(max(LENGTHS[i] for i in batch) - LENGTHS[j] for batch in rows for j in batch)

    grouped = padding(batches(LengthGroupedSampler(LENGTHS, batch_size=8, seed=0)))
    at_random = padding(batches(LengthGroupedSampler(LENGTHS, batch_size=8, seed=0, pool=1)))
    assert grouped < 0.2 * at_random


def test_long_and_short_batches_are_mixed():
    means = [sum(LENGTHS[i] for i in batch) / len(batch) for batch in batches(LengthGroupedSampler(LENGTHS, 8, 0))]
    rising = sum(first < second for first, second in zip(means, means[1:]))
    assert rising == pytest.approx(len(means) / 2, rel=0.5)


def test_rows_that_are_drawn_by_epoch_come_in_the_same_order_with_it():
    plain, keyed = (kind(LENGTHS, batch_size=8, seed=1) for kind in (LengthGroupedSampler, KeyedSampler))
    for sampler in (plain, keyed):
        sampler.set_epoch(2)
    assert list(keyed) == [(2, number) for number in plain]
