"""
The calibration of a classifier: from logits to probabilities, and from those to labels; and the early verdict.

What is computed from a calibration travels with every model, so it is in `pipeline_gpt_scratch.py`.
"""

from ..pipeline_gpt_scratch import Calibration, Verdict

__all__ = ["Calibration", "Verdict", "settings"]

CARD_AGREEMENT = "0.99"  # of the early verdict that result cards are about


def settings(calibration: Calibration) -> dict:
    """A calibration as config.json keeps it: without what it has not, and what other settings say."""
    kept = {name: getattr(calibration, name) for name in ("temperature", "shift", "threshold", "outside_threshold")}
    if calibration.outside_threshold is not None or isinstance(calibration.threshold, (list, tuple)):
        kept["outside_label"] = calibration.outside_label
    kept["early"] = calibration.early
    return {name: value for name, value in kept.items() if value is not None}
