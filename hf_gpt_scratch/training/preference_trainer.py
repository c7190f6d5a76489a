"""
TRL's DPOTrainer and its DPOConfig with what every job here guarantees. TRL is imported when they are first asked for,
so that this module can be imported without it.
"""

import os
import re
import warnings
from dataclasses import dataclass, fields
from functools import cache

from .arguments import ScratchTrainingArguments
from .trainer import ScratchTrainer


@cache
def arguments_class() -> type:
    """ScratchTrainingArguments that are a DPOConfig too."""
    from trl import DPOConfig

    @dataclass
    class PreferenceTrainingArguments(ScratchTrainingArguments, DPOConfig):
        """TRL's DPOConfig with this project's defaults."""

    return _findable(PreferenceTrainingArguments)


def loss_types() -> list[str]:
    """The names of TRL's losses, which it lists in the help of the option alone; none where it does not."""
    [option] = [one for one in fields(arguments_class()) if one.name == "loss_type"]
    return re.findall(r"'(\w+)'", option.metadata.get("help", ""))


@cache
def trainer_class() -> type:
    """The DPOTrainer that stops at NaN, saves a complete model or none, and prints a table of losses."""
    from trl import DPOTrainer

    class PreferenceTrainer(ScratchTrainer, DPOTrainer):
        """For rows of `data.preferences.encode`. The arguments are those of both trainers."""

        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset  # is tokenized, with what is written in it kept as text

        def _precompute_ref_logps(self, *args, **kwargs):
            if self.args.verbose or "TQDM_DISABLE" in os.environ:
                return super()._precompute_ref_logps(*args, **kwargs)
            os.environ["TQDM_DISABLE"] = "1"  # its bar has no other switch
            try:
                with warnings.catch_warnings(action="ignore", category=FutureWarning):
                    return super()._precompute_ref_logps(*args, **kwargs)
            finally:
                del os.environ["TQDM_DISABLE"]

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            """Besides what TRL adds, `eval_accuracy`: the share of pairs whose chosen answer has the higher reward."""
            shares = self._metrics["eval"].get("rewards/accuracies")
            if shares and "eval_loss" in logs:
                logs["eval_accuracy"] = sum(shares) / len(shares)
            super().log(logs, start_time)

        def progress(self) -> dict:
            """Also what TRL has gathered since the last line of the log."""
            return super().progress() | {"metrics": self._metrics["train"], "tokens": self._total_train_tokens}

        def restore_progress(self, saved: dict) -> None:
            super().restore_progress(saved)
            self._metrics["train"].update(saved["metrics"])
            self._total_train_tokens = saved["tokens"]

        def create_model_card(self, *args, **kwargs) -> None:
            """Not TRL's: `hub.model_card` writes one for a push."""

        def _send_telemetry(self) -> None:
            """Nothing is sent to anyone."""

    return _findable(PreferenceTrainer)


def _findable(made: type) -> type:
    """The class under the name that pickle, with which Trainer keeps its arguments, looks for (`__getattr__`)."""
    made.__qualname__ = made.__name__
    return made


def __getattr__(name: str) -> type:
    for make in (arguments_class, trainer_class):
        if name in ("PreferenceTrainingArguments", "PreferenceTrainer") and (made := make()).__name__ == name:
            return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
