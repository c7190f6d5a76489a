"""
The 95 % intervals of shares, means and other statistics, each containing its value; resampling is seeded.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

CONFIDENCE = 0.95
RESAMPLES = 10_000


def percentiles(drawn: np.ndarray, value: float) -> list[float]:
    """
    The range of the middle 95 % of a statistic's drawn values, widened to contain its own value, which may be outside
    for a share of 0 or 1.
    """
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return [float(min(low, value)), float(max(high, value))]


def wilson(successes: float, trials: int) -> list[float] | None:
    """
    Wilson's score interval (1927) of a share; `None` without trials. With fractions of successes, such as half a
    point for a tie, it is wider than necessary.
    """
    if trials == 0:
        return None
    share, z = successes / trials, norm.ppf((1 + CONFIDENCE) / 2)
    centre, spread = share + z * z / (2 * trials), z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = (float((centre + side * spread) / (1 + z * z / trials)) for side in (-1, 1))
    # At a share of 0 or 1 that share is an end, but for the rounding.
    return [max(min(low, share), 0.0), min(max(high, share), 1.0)]


def posterior(counts: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """
    Draws of the shares behind the counts of several outcomes, `(outcomes, draws)`, by Jeffreys' prior (Brown et al.
    2001 for two outcomes): unlike resampled rows, they tell how common an outcome may be that was never seen.
    """
    return rng.dirichlet(np.array(counts) + 0.5, size=RESAMPLES).T


def bootstrap_mean(clusters: Sequence[Sequence[float]], seed: int = 0) -> list[float] | None:
    """The interval of the mean of all values, by resampling whole clusters of them; `None` for fewer than two."""
    if len(clusters) < 2:
        return None
    sums, sizes = np.array([[sum(values), len(values)] for values in clusters]).T
    rng, even = np.random.default_rng(seed), np.full(len(clusters), 1 / len(clusters))
    means = []
    for _ in range(0, RESAMPLES, 1000):  # the counts of all at once would fill the memory
        times = rng.multinomial(len(clusters), even, size=1000)  # how often each cluster is drawn
        means.append((times @ sums) / (times @ sizes))
    return percentiles(np.concatenate(means), sums.sum() / sizes.sum())
