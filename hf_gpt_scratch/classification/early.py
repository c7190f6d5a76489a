"""Early verdicts: how sure a classifier must be after a word for its verdict to be as good as the last one."""

from collections.abc import Sequence
from itertools import groupby

AGREEMENTS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


def fit_early(
    confidences: Sequence[Sequence[float]], agrees: Sequence[Sequence[bool]], agreement: float
) -> dict[str, float]:
    """
    The lowest threshold of confidence at which the early verdicts of this share of the texts, and at every higher
    threshold too, are the verdicts on the whole text. A verdict is early where its confidence is above the threshold;
    a text where it never is has the verdict on the whole of it.

    Args:
        confidences: of each text that after each word (`WordReading.confidence`), never empty.
        agrees: whether the verdict there is that on the whole text; after the last word it is.

    Returns:
        `threshold`; the `agreement` found with it; and `words_read`, the share of a text's words that are read until
        then, on average over the texts.
    """
    allowed = int((1 - agreement) * len(confidences) + 1e-9)
    # From above: below the confidence of each step a text is decided after fewer words, with the verdict there.
    steps = sorted((step for text in zip(confidences, agrees) for step in _steps(*text)), reverse=True)
    threshold, disagreeing = 1.0, 0
    for confidence, same in groupby(steps, key=lambda step: step[0]):
        disagreeing += sum(change for _, change in same)
        if disagreeing > allowed:
            break
        below = next((step[0] for step in steps if step[0] < confidence), 0.0)
        threshold = (confidence + below) / 2
    found = [_decided(text, threshold) for text in confidences]
    return {
        "threshold": threshold,
        "agreement": sum(same[at] for same, at in zip(agrees, found)) / len(found),
        "words_read": sum((at + 1) / len(text) for text, at in zip(confidences, found)) / len(found),
    }


def _steps(confidences: Sequence[float], agrees: Sequence[bool]) -> list[tuple[float, int]]:
    """
    The confidences that are higher than all before them, at which the word that decides changes, and whether a
    threshold below makes the text disagree where it did not (1), or agree again (-1).
    """
    steps, highest = [], float("-inf")
    for confidence, same in zip(confidences, agrees):
        if confidence > highest:
            highest = confidence
            steps.append((confidence, same))
    later = [same for _, same in steps[1:]] + [True]  # above the highest the whole text decides
    return [(confidence, int(after) - int(same)) for (confidence, same), after in zip(steps, later)]


def _decided(confidences: Sequence[float], threshold: float) -> int:
    """The index of the word that decides."""
    return next((at for at, one in enumerate(confidences) if one > threshold), len(confidences) - 1)
