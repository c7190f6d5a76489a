"""How the training scripts read their settings: first a YAML of flat keys, then `--key value` that overrides it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from .errors import InputError


@dataclass
class ScratchTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with this project's defaults."""

    output_dir: str | None = field(default=None, metadata={"help": "The folder to write; required."})
    weight_decay: float = field(default=0.1, metadata={"help": "AdamW's weight decay, not on biases and LayerNorm."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints to keep."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint's weights."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between two points of the loss curve."})
    seed: int = field(default=123, metadata={"help": "Seed of the weights, the batches and the dropout."})
    precision: str = field(
        default="auto",
        metadata={
            "help": "auto, fp32, fp16 or bf16. auto: fp32 on a CPU; on a GPU bf16 from compute capability 8.0 on (A100"
            " and newer), below it (T4) fp16.",
            "choices": ["auto", "fp32", "fp16", "bf16"],
        },
    )

    def __post_init__(self):
        if self.output_dir is None:
            raise InputError("Give the folder to write by --output_dir.")
        if self.label_smoothing_factor:
            raise InputError("label_smoothing_factor is not supported: Trainer would smooth against unshifted labels.")
        if not (self.fp16 or self.bf16):
            precision = _best_precision() if self.precision == "auto" else self.precision
            self.fp16, self.bf16 = precision == "fp16", precision == "bf16"
        super().__post_init__()


def parse_yaml_and_args(parser: HfArgumentParser, argv: Sequence[str]) -> tuple:
    """
    The parser's dataclasses, filled from `argv`: an optional path of a YAML file, then options that override it.

    Raises:
        InputError: when the YAML cannot be read or has a key that is no option.
        SystemExit: with status 2, by argparse, when an option is wrong.
    """
    argv = list(argv)
    if argv and not argv[0].startswith("-"):
        argv = [*_yaml_as_options(parser, argv[0]), *argv[1:]]
    try:
        return parser.parse_args_into_dataclasses(argv)
    except InputError:
        raise
    except ValueError as error:  # TrainingArguments and HfArgumentParser refuse settings that contradict each other
        raise InputError(f"The settings cannot be used: {' '.join(str(error).split())}") from None


def resume_checkpoint(args: TrainingArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` names; with `true`, the last one of `output_dir`."""
    wanted = args.resume_from_checkpoint
    if wanted is None or wanted.lower() == "false":
        return None
    checkpoint = get_last_checkpoint(args.output_dir) if wanted.lower() == "true" else wanted
    if checkpoint is None or not (Path(checkpoint) / "trainer_state.json").is_file():
        raise InputError(f"There is no checkpoint to resume from in {checkpoint or args.output_dir}.")
    return checkpoint


def _best_precision() -> str:
    if not torch.cuda.is_available():
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"


def _yaml_as_options(parser: HfArgumentParser, path: str) -> list[str]:
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"The config {path} cannot be read ({error.strerror}).") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold `key: value` lines.")
    known = {action.dest for action in parser._actions}
    unknown = [str(key) for key in settings if key not in known]
    if unknown:
        raise InputError(f"{path} has keys that are no option: {', '.join(unknown)}.")
    options = []
    for key, value in settings.items():
        if value is not None:
            options += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return options
