"""How the jobs read their settings: first a YAML of flat keys, then `--key value` that overrides it."""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser, PreTrainedTokenizerBase, TrainingArguments
from transformers.hf_argparser import string_to_bool

from ..configuration_gpt_scratch import GPTScratchConfig
from ..modeling_gpt_scratch import GPTScratchPreTrainedModel
from ..pretrained import load_pretrained
from ..tokenizer import load_tokenizer, train_tokenizer
from ..utils.errors import InputError, UsageError, one_line
from ..utils.files import is_missing_folder
from ..utils.special_tokens import learn_to_end
from . import configs, job_help
from .precision import set_precision


@dataclass
class ScratchTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with this project's defaults."""

    output_dir: str | None = field(default=None, metadata={"help": "The folder to write; required."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace the run in output_dir; without it a finished run is not touched."}
    )
    weight_decay: float = field(
        default=0.1, metadata={"help": "Weight decay of AdamW, except on biases and LayerNorm."}
    )
    eval_strategy: str = field(
        default="epoch",
        metadata={"help": "When to evaluate: no, steps or epoch.", "choices": ["no", "steps", "epoch"]},
    )
    save_strategy: str = field(
        default="epoch",
        metadata={
            "help": "When to save a checkpoint: no, steps, epoch or best.",
            "choices": ["no", "steps", "epoch", "best"],
        },
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints to keep."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "Keep the weights of the best checkpoint; needs evaluation during the run."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Log the training loss every so many steps."})
    seed: int = field(default=123, metadata={"help": "Random seed of the weights, the batches and the dropout."})
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Restore early stopping when a run is resumed."}
    )
    hub_strategy: str = field(
        default="end",
        metadata={
            "help": "With --push_to_hub true. end: one push with a model card, after the evaluation. every_save: also"
            " push the model of every checkpoint during training.",
            "choices": ["end", "every_save"],
        },
    )
    precision: str = field(
        default="auto",
        metadata={
            "help": "auto: bf16 on a GPU of compute capability 8.0 or higher (A100), fp16 on an older GPU (T4); on a"
            " CPU bf16 where it is faster at it and n_embd is 256 or more, else fp32. fp16 needs a GPU.",
            "choices": ["auto", "fp32", "fp16", "bf16"],
        },
    )
    activation_checkpointing: bool | None = field(
        default=None, metadata={"help": "Compute activations again in the backward pass, which saves GPU memory."}
    )
    verbose: bool = field(
        default=False, metadata={"help": "Also show the libraries' warnings, progress bars and logs."}
    )

    def __post_init__(self):
        if self.output_dir is None:
            raise UsageError(configs.NO_OUTPUT)
        if self.hub_token:
            raise UsageError(
                "Omit --hub_token, since the command is saved with the results; set HF_TOKEN or run `hf auth login`."
            )
        if self.eval_strategy == "no":
            self.load_best_model_at_end = False  # no checkpoint is known to be the best
        set_precision(self)
        if not hasattr(TrainingArguments, "activation_checkpointing"):  # its name in older versions of transformers
            self.gradient_checkpointing = bool(self.activation_checkpointing or self.gradient_checkpointing)
            self.activation_checkpointing = self.gradient_checkpointing
        if not torch.cuda.is_available():
            self.dataloader_pin_memory = False  # torch warns about it without a GPU
        super().__post_init__()


def training_settings(args: TrainingArguments) -> dict:
    """The settings that matter most for a result; `batch_size` is that of an optimizer step."""
    names = ("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "optim")
    settings = {name: getattr(value := getattr(args, name), "value", value) for name in names}
    rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {**settings, "batch_size": rows, "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"}


def make_parser(
    job: str, arguments: type, description: str, example: str, training: type = ScratchTrainingArguments, **defaults
) -> HfArgumentParser:
    """The parser of a job, for its own dataclass and ScratchTrainingArguments or a kind of it, with its defaults."""
    parser = HfArgumentParser(
        (arguments, training),
        prog=f"hf-gpt-scratch train {job}",
        description=job_help.description(description, configs.names(job)),
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
            raise UsageError(f"{config} has unknown keys: {', '.join(unknown)}{configs.advice(unknown[0], known)}.")
        words = {action.dest: action.choices for action in parser._actions}
        words |= {action.dest: ("yes", "no") for action in parser._actions if action.type is string_to_bool}
        argv = [*configs.as_options(settings, words), *argv]
    unknown = parser.parse_known_args(argv)[1]
    if unknown:
        raise configs.unknown_option(unknown[0], {action.dest for action in parser._actions})
    try:
        parsed = parser.parse_args_into_dataclasses(argv)
        for name, value in [pair for one in parsed for pair in vars(one).items()]:
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name} must be a finite number, not {value}.")
        return parsed
    except UsageError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, ImportError, OSError) as error:
        # TrainingArguments refuses settings that contradict each other, and fails over others, in many ways
        raise UsageError(f"The settings cannot be used: {one_line(error)}.") from None


@dataclass
class ModelArguments:
    """Pretrained weights with their tokenizer, or a shape for random weights."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A model folder or Hub repository to start from; a stock GPT-2 works too."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "A folder or Hub repository with another tokenizer than the model's."}
    )
    train_tokenizer: int | None = field(
        default=None, metadata={"help": "Train a tokenizer of this many tokens on the training texts."}
    )
    individual_digits: bool = field(
        default=False, metadata={"help": "Make every digit a token of its own in that tokenizer."}
    )
    lowercase: bool = field(default=False, metadata={"help": "Train a lowercase tokenizer; for classifiers."})
    n_positions: int = field(default=256, metadata={"help": "Context length in tokens, for random weights."})
    n_embd: int = field(default=128, metadata={"help": "Embedding size, for random weights."})
    n_layer: int = field(default=4, metadata={"help": "Transformer blocks, for random weights."})
    n_head: int = field(default=4, metadata={"help": "Attention heads, for random weights."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout probability, everywhere in the model."})

    def make_tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """
        The tokenizer: trained on `texts`, or that of `tokenizer_name`, or the model's.

        Raises:
            InputError: when it cannot be read, or has no EOS token.
            UsageError: when the settings give none, or two.
        """
        source = self.tokenizer_name or self.model_name_or_path
        if self.train_tokenizer and source:
            raise UsageError(
                "--train_tokenizer cannot be combined with --model_name_or_path or --tokenizer_name; omit one of them."
            )
        if self.train_tokenizer:
            return train_tokenizer(
                texts, self.train_tokenizer, self.individual_digits, self.n_positions, self.lowercase
            )
        if source is None:
            raise UsageError(
                "Give --model_name_or_path, or --train_tokenizer (such as 2000) to start from random weights."
            )
        for option in ("tokenizer_name", "model_name_or_path"):
            if is_missing_folder(value := getattr(self, option) or ""):
                raise InputError(configs.no_folder(value, option))
        tokenizer = load_tokenizer(source)
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"The tokenizer of {source} has no EOS token to end texts with; choose another with --tokenizer_name."
            )
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
            UsageError: when the shape is impossible, or the tokenizer does not fit the model.
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
            if model.can_generate():
                if self.tokenizer_name:  # the ends of the model's own tokenizer may be any tokens of this one
                    model.config.eos_token_id = model.generation_config.eos_token_id = None
                learn_to_end(model, tokenizer)
            return model
        shape = {name: getattr(self, name) for name in ("n_positions", "n_embd", "n_layer", "n_head")}
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        try:
            config = GPTScratchConfig(vocab_size=len(tokenizer), **shape, **{**ends, **settings})
        except ValueError as error:
            raise UsageError(str(error)) from None
        return model_class(config)


@dataclass
class ClassifierArguments(ModelArguments):
    """What the jobs that train a classifier share."""

    data_file: str | None = field(default=None, metadata={"help": "The labelled texts."})
    dataset_name: str | None = field(default=None, metadata={"help": "A Hub data set."})
    split_seed: int | None = field(
        default=None, metadata={"help": "Random seed of the grouped split; --seed by default."}
    )
    class_weights: str = field(
        default="none",
        metadata={
            "help": "Weight of each label's texts in the loss. balanced: the rarer a label, the more its texts count.",
            "choices": ["none", "balanced"],
        },
    )
    long_texts: str = field(
        default="first",
        metadata={
            "help": "What is read of a text that is longer than the model's context: its first or last tokens, or all"
            " of it in windows, whose scores are averaged.",
            "choices": ["first", "last", "windows"],
        },
    )
    prefix_loss_weight: float = field(
        default=0.0, metadata={"help": "Weight of the loss on every prefix of a text, 0 to 1."}
    )
    word_dropout: float = field(default=0.0, metadata={"help": "Probability of omitting a word of a training text."})
    trainable_layers: str = field(
        default="all",
        metadata={"help": "all, head, or a number n: the last n blocks with the final LayerNorm and the head."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without improvement."}
    )
