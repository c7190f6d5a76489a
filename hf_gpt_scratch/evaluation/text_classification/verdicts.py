"""
What a calibrated classifier says, as arrays: of whole texts, and word by word as the early verdict takes it. The
number of the outside answer is `OUTSIDE` of `data.labelled_texts`, as that of the label of such a text.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ...pipeline_gpt_scratch import Calibration
from .early import Reading


def probabilities_of(calibration: Calibration, logits: np.ndarray) -> np.ndarray:
    """The probabilities `(N, K)` of logits `(N, K)`."""
    return calibration.probabilities(torch.from_numpy(np.asarray(logits, dtype=float))).numpy()


def said_of(calibration: Calibration, probabilities: np.ndarray) -> np.ndarray:
    """The label numbers `(N,)`, `OUTSIDE` among them; rows of 0 and 1, `(N, K)`, where a text may have several."""
    return calibration.decide(torch.from_numpy(probabilities)).numpy().astype(int)


def reading_of(calibration: Calibration, logits: np.ndarray, label: int | np.ndarray) -> Reading:
    """
    A text read word by word, from the logits after each word, `(W, K)`.

    Args:
        label: its number, `OUTSIDE`, or where it may have several a row of 0 and 1.
    """
    probabilities = calibration.probabilities(torch.from_numpy(np.asarray(logits, dtype=float)))
    confidence, said = calibration.confidence(probabilities).numpy(), calibration.decide(probabilities).numpy()

    def is_same(other) -> np.ndarray:
        same = said.astype(int) == other
        return same.all(axis=-1) if said.ndim == 2 else same

    return Reading(confidence, is_same(said[-1].astype(int)), is_same(np.asarray(label, dtype=int)))


def readings_of(calibration: Calibration, logits: Sequence[np.ndarray], labels: Sequence) -> list[Reading]:
    """`reading_of` each of the texts."""
    return [reading_of(calibration, one, label) for one, label in zip(logits, labels)]
