"""The calibration of a classifier: from logits to probabilities, and from those to labels."""

from dataclasses import dataclass, fields

import torch

from ..configuration_gpt_scratch import GPTScratchConfig


@dataclass(frozen=True)
class Calibration:
    """
    How logits become the probability of label 1, and the threshold above which that is the label; `hf-gpt-scratch
    calibrate` fits it to a model and keeps it in the model's configuration, under `calibration`.

    Attributes:
        temperature: divides the log-odds of label 1 (Guo et al. 2017).
        shift: added to them, where the share of label 1 differs from the training set's (Saerens et al. 2002).
        threshold: probabilities above it are label 1.
    """

    temperature: float = 1.0
    shift: float = 0.0
    threshold: float = 0.5

    @classmethod
    def of(cls, config: GPTScratchConfig) -> "Calibration":
        """The calibration in a configuration, or one that changes nothing."""
        settings = getattr(config, "calibration", None) or {}
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The probability of label 1, `(...)`, from both labels' logits `(..., 2)`."""
        return self.of_log_odds(logits[..., 1].float() - logits[..., 0].float())

    def of_log_odds(self, log_odds: torch.Tensor) -> torch.Tensor:
        """The probability of label 1 from the model's log-odds of it."""
        return (log_odds / self.temperature + self.shift).sigmoid()
