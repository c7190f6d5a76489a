"""
Randomness of the data, out of what it is for: the seed, the epoch and the row. It is the same whichever process or
worker draws it, how far ahead it reads, and from which checkpoint the run goes on.
"""

import numpy as np


def draws(seed: int, epoch: int, row: int) -> np.random.Generator:
    """A generator for a row in an epoch."""
    return np.random.default_rng((seed, epoch, row))
