"""Intervals, held to scipy's and to the normal approximation."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from hf_gpt_scratch.evaluation.intervals import bootstrap_mean, percentiles, posterior, wilson


@pytest.mark.parametrize("wins, n", [(0, 5), (7, 10), (30, 30), (10, 10), (25, 25)])
def test_wilson(wins, n):
    expected = binomtest(wins, n).proportion_ci(method="wilson")
    low, high = wilson(wins, n)
    assert [low, high] == pytest.approx([expected.low, expected.high])
    assert low <= wins / n <= high and (low == 0) == (wins == 0) and (high == 1) == (wins == n)


def test_wilson_of_nothing():
    assert wilson(0, 0) is None


def test_percentiles_hold_the_value_itself():
    drawn = np.linspace(0, 1, 1001)
    assert percentiles(drawn, 0.5) == pytest.approx([0.025, 0.975])
    assert percentiles(drawn, 1.0) == [pytest.approx(0.025), 1.0]
    assert percentiles(drawn, 0.0) == [0.0, pytest.approx(0.975)]


@pytest.mark.parametrize("wins, n", [(0, 40), (7, 10), (966, 966)])
def test_shares_are_drawn_from_jeffreys_distribution(wins, n):
    drawn = posterior([wins, n - wins], np.random.default_rng(0))[0]
    quantiles = [0.01, 0.1, 0.5, 0.9, 0.99]
    assert np.quantile(drawn, quantiles) == pytest.approx(beta.ppf(quantiles, wins + 0.5, n - wins + 0.5), abs=0.02)


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
