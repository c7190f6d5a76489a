"""How the jobs read their settings: first a YAML of flat keys, then `--key value` that overrides it."""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, PreTrainedTokenizerBase, TrainerState, TrainingArguments

from ..configuration_gpt_scratch import GPTScratchConfig
from ..modeling_gpt_scratch import GPTScratchPreTrainedModel
from ..pretrained import load_pretrained
from ..tokenizer import load_tokenizer, train_tokenizer
from ..utils.errors import InputError, UsageError, one_line
from ..utils.files import is_missing_folder
from . import configs


@dataclass
class ScratchTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with this project's defaults."""

    output_dir: str | None = field(default=None, metadata={"help": "The folder to write; required."})
    weight_decay: float = field(default=0.1, metadata={"help": "AdamW's weight decay, not on biases and LayerNorm."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints to keep."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the best checkpoint's weights; not without evaluation."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between two points of the loss curve."})
    seed: int = field(default=123, metadata={"help": "Seed of the weights, the batches and the dropout."})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Let a resumed run stop early where the uninterrupted one would have."}
    )
    hub_strategy: str = field(
        default="end",
        metadata={
            "help": "With --push_to_hub true. end: one push, checked and with a model card, when all is measured."
            " every_save: besides, the model of each checkpoint as it is trained.",
            "choices": ["end", "every_save"],
        },
    )
    precision: str = field(
        default="auto",
        metadata={
            "help": "auto, fp32, fp16 or bf16. auto: fp32 on a CPU; on a GPU bf16 from compute capability 8.0 on (A100"
            " and newer), below it (T4) fp16.",
            "choices": ["auto", "fp32", "fp16", "bf16"],
        },
    )
    activation_checkpointing: bool | None = field(
        default=None, metadata={"help": "Compute activations again in the backward pass, which saves GPU memory."}
    )
    verbose: bool = field(
        default=False, metadata={"help": "Show what the libraries say too: their warnings, bars and logs."}
    )

    def __post_init__(self):
        if self.output_dir is None:
            raise UsageError("Give the folder to write by --output_dir.")
        if self.hub_token:
            raise UsageError(
                "Give the token by HF_TOKEN or `hf auth login`: results keep the command, options and all."
            )
        if self.eval_strategy == "no":
            self.load_best_model_at_end = False  # nothing tells which is the best
        if not (self.fp16 or self.bf16):
            precision = _best_precision(self.use_cpu) if self.precision == "auto" else self.precision
            self.fp16, self.bf16 = precision == "fp16", precision == "bf16"
        if not hasattr(TrainingArguments, "activation_checkpointing"):  # its name in older versions of transformers
            self.gradient_checkpointing = bool(self.activation_checkpointing or self.gradient_checkpointing)
            self.activation_checkpointing = self.gradient_checkpointing
        if not torch.cuda.is_available():
            self.dataloader_pin_memory = False  # torch warns of it where there is nothing to pin for
        super().__post_init__()


def training_settings(args: TrainingArguments) -> dict:
    """The settings that a result depends on most, by their names; `batch_size` is that of an optimizer step."""
    names = ("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "optim")
    settings = {name: getattr(value := getattr(args, name), "value", value) for name in names}
    rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {**settings, "batch_size": rows, "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"}


def make_parser(job: str, arguments: type, description: str, example: str, **defaults) -> HfArgumentParser:
    """The parser of a job: of its own dataclass and ScratchTrainingArguments, with the job's defaults."""
    parser = HfArgumentParser(
        (arguments, ScratchTrainingArguments),
        prog=f"hf-gpt-scratch train {job}",
        description=f"{description}\nCONFIG is a YAML file or one of {', '.join(configs.names(job))}.",
        epilog=f"Example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(**defaults)
    return parser


def parse_yaml_and_args(parser: HfArgumentParser, argv: Sequence[str], job: str = "") -> tuple:
    """
    The parser's dataclasses, filled from `argv`: an optional config (a YAML file, or the name of one that comes with
    the package for the job), then options that override it.

    Raises:
        InputError: when the YAML cannot be read.
        UsageError: for a key or option that does not exist, or settings that contradict each other.
        SystemExit: with status 2, by argparse, when an option's value is wrong.
    """
    parser.allow_abbrev = False  # a misspelt option is an error, not another option
    parser.usage = "%(prog)s [CONFIG | --config CONFIG] [--key value ...]"
    config, argv = configs.take_config(argv, job)
    if config:
        settings = configs.read(config)
        known = {action.dest for action in parser._actions}
        unknown = [str(key) for key in settings if key not in known]
        if unknown:
            raise UsageError(f"{config} has keys that are no option: {', '.join(unknown)}.")
        argv = [*configs.as_options(settings), *argv]
    unknown = parser.parse_known_args(argv)[1]
    if unknown:
        raise UsageError(f"There is no option {unknown[0]}; --help lists them.")
    try:
        return parser.parse_args_into_dataclasses(argv)
    except UsageError:
        raise
    except ValueError as error:  # TrainingArguments refuses settings that contradict each other
        raise UsageError(f"The settings cannot be used: {one_line(error)}.") from None


def resume_checkpoint(args: TrainingArguments) -> str | None:
    """
    The checkpoint that `--resume_from_checkpoint` names; with `true`, the last complete one of `output_dir`.

    Raises:
        InputError: when there is none, or when a run that is not to be resumed left some, which a later `true` would
            take for this one's.
    """
    wanted = args.resume_from_checkpoint
    left = list(Path(args.output_dir).glob("checkpoint-*"))
    if wanted is None or wanted.lower() == "false":
        if left:
            raise InputError(
                f"{args.output_dir} holds checkpoints of an earlier run: resume it by --resume_from_checkpoint true,"
                " delete them, or choose another folder."
            )
        return None
    folders = complete_checkpoints(args.output_dir) if wanted.lower() == "true" else [Path(wanted)]
    if not folders or not _is_complete(folders[-1]):
        raise InputError(
            f"There is no complete checkpoint to resume from in {args.output_dir} ({wanted!r} was asked)."
        )
    return str(folders[-1])


def complete_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The checkpoints in `output_dir` that were saved to their end, in the order of their steps."""
    complete = [folder for folder in Path(output_dir).glob("checkpoint-*") if _is_complete(folder)]
    return sorted(complete, key=lambda path: TrainerState.load_from_json(path / "trainer_state.json").global_step)


def _is_complete(checkpoint: Path) -> bool:
    # Trainer writes its state last: without it, or with half of it, the run ended while it was saving.
    try:
        return "global_step" in json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _best_precision(use_cpu: bool = False) -> str:
    if use_cpu or not torch.cuda.is_available():
        return "fp32"
    return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"


@dataclass
class ModelArguments:
    """Pretrained weights with their tokenizer, or random ones of a shape."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A model folder or Hub repository to start from, also a stock GPT-2."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "A folder or Hub repository with a tokenizer, if not the model's."}
    )
    train_tokenizer: int | None = field(
        default=None, metadata={"help": "Train a tokenizer of so many tokens on the training texts."}
    )
    individual_digits: bool = field(default=False, metadata={"help": "Make every digit a token, in that tokenizer."})
    n_positions: int = field(default=256, metadata={"help": "Tokens the model reads at once, for random weights."})
    n_embd: int = field(default=128, metadata={"help": "Width of the model, for random weights."})
    n_layer: int = field(default=4, metadata={"help": "Blocks of the model, for random weights."})
    n_head: int = field(default=4, metadata={"help": "Attention heads of the model, for random weights."})
    dropout: float = field(default=0.1, metadata={"help": "All dropout probabilities of the model."})

    def make_tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """
        The tokenizer: trained on `texts`, or the one named, or the model's.

        Raises:
            InputError: when it cannot be read, or has no EOS token.
            UsageError: when the settings name none, or two.
        """
        source = self.tokenizer_name or self.model_name_or_path
        if self.train_tokenizer and source:
            raise UsageError("--train_tokenizer is for random weights and no --tokenizer_name: omit it.")
        if self.train_tokenizer:
            return train_tokenizer(texts, self.train_tokenizer, self.individual_digits, self.n_positions)
        if source is None:
            raise UsageError("Give --model_name_or_path, or for random weights --tokenizer_name or --train_tokenizer.")
        for option in ("tokenizer_name", "model_name_or_path"):
            if is_missing_folder(value := getattr(self, option) or ""):
                raise InputError(f"There is no folder {value}; make it, or name another by --{option}.")
        tokenizer = load_tokenizer(source)
        if tokenizer.eos_token_id is None:
            raise InputError(f"The tokenizer of {source} has no EOS token, which texts have to end with.")
        return tokenizer

    def make_model(
        self,
        model_class: type[GPTScratchPreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
        new_head: bool = False,
        quantization=None,
        **config_settings,
    ) -> GPTScratchPreTrainedModel:
        """
        The model, from pretrained or random weights; the arguments are those of `pretrained.load_model`.

        Raises:
            InputError: when pretrained weights cannot be loaded.
            UsageError: when the shape is none of a model, or the tokenizer does not fit it.
        """
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), self.dropout)
        settings = {"pad_token_id": tokenizer.pad_token_id, **dropouts, **config_settings}
        if self.model_name_or_path:
            model = load_pretrained(model_class, self.model_name_or_path, new_head, quantization, **settings)
            if len(tokenizer) > model.config.vocab_size:
                raise UsageError(
                    f"The tokenizer has {len(tokenizer)} tokens, more than the model ({model.config.vocab_size});"
                    " omit --tokenizer_name."
                )
            return model
        shape = {name: getattr(self, name) for name in ("n_positions", "n_embd", "n_layer", "n_head")}
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        try:
            config = GPTScratchConfig(vocab_size=len(tokenizer), **shape, **{**ends, **settings})
        except ValueError as error:
            raise UsageError(str(error)) from None
        return model_class(config)
