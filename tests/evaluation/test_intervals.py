"""Intervals, held to scipy's and to the normal approximation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from hf_gpt_scratch.evaluation.intervals import bootstrap_mean, wilson


@pytest.mark.parametrize("wins, n", [(0, 5), (7, 10), (30, 30)])
def test_wilson(wins, n):
    expected = binomtest(wins, n).proportion_ci(method="wilson")
    assert wilson(wins, n) == pytest.approx([expected.low, expected.high])


def test_wilson_of_nothing():
    assert wilson(0, 0) is None


def test_bootstrap_of_single_values():
    values = np.random.default_rng(1).normal(50, 10, 400)
    half = 1.96 * values.std() / 20  # the normal approximation
    interval = bootstrap_mean([[value] for value in values])
    assert interval == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1)
    assert interval == bootstrap_mean([[value] for value in values])
    assert bootstrap_mean([[3.0]]) is None


def test_bootstrap_draws_whole_clusters():
    values = np.random.default_rng(1).normal(50, 10, 400)
    alone, thrice = bootstrap_mean([[value] for value in values]), bootstrap_mean([[value] * 3 for value in values])
    assert thrice == pytest.approx(alone)  # the same value three times is no more evidence
