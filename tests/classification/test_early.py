"""The threshold of an early verdict: the lowest that keeps an agreement, found as by trying them all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gpt_scratch.classification.early import fit_early


def tried(confidences, agrees, threshold) -> float:
    """The agreement at a threshold, the long way."""
    same = 0
    for text, agreeing in zip(confidences, agrees):
        above = [at for at, one in enumerate(text) if one > threshold]
        same += agreeing[above[0] if above else -1]
    return same / len(confidences)


READING = st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(texts=st.lists(READING, min_size=1, max_size=8), agreement=st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_it_is_the_lowest_threshold_that_keeps_the_agreement(texts, agreement):
    confidences = [[number / 20 for number, _ in text] for text in texts]
    agrees = [[same for _, same in text[:-1]] + [True] for text in texts]
    fitted = fit_early(confidences, agrees, agreement)
    assert fitted["agreement"] == tried(confidences, agrees, fitted["threshold"]) >= agreement
    between = [number / 20 + 0.025 for number in range(-1, 21)]  # every threshold that decides otherwise
    kept = [t for t in between if all(tried(confidences, agrees, u) >= agreement for u in between if u >= t)]
    assert tried(confidences, agrees, fitted["threshold"]) == tried(confidences, agrees, kept[0])


def test_the_words_that_are_read():
    confidences = [[0.2, 0.9, 0.95, 0.99], [0.6, 0.5]]
    agrees = [[False, True, True, True], [True, True]]
    assert fit_early(confidences, agrees, 1.0) == {"threshold": 0.4, "agreement": 1.0, "words_read": 0.5}
    assert fit_early(confidences, agrees, 0.5)["words_read"] == pytest.approx((1 / 4 + 1 / 2) / 2)
