"""
Trains an instruction follower on preferences: of two answers to a prompt, the one that people, or a rule, chose. By
TRL's DPOTrainer (direct preference optimization, Rafailov et al. 2023).

The data is a file or a Hub set of prompt, chosen and rejected, such as `app compare --export-preferences` writes.
Options come from the config and the command line, which wins. Writes to `--output_dir`: the model (loads with
`AutoModelForCausalLM`; with `--lora_r` the adapter, with `AutoPeftModelForCausalLM`) and its tokenizer, its answers to
the test prompts in `responses.json` and those of the model before in `responses_before.json`, `metrics.json`,
`results/prefer.json` and `plots/training.png`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from datasets import DatasetDict
from datasets.fingerprint import get_temporary_cache_files_directory
from transformers import HfArgumentParser, PreTrainedTokenizerBase, set_seed

from ..adapters import lora_settings
from ..data import preferences
from ..tokenizer import fingerprint
from ..utils.errors import InputError, UsageError, one_line, raise_if_starved
from ..utils.requirements import TRL, require_package
from . import arguments, instruct
from .arguments import ModelArguments, ScratchTrainingArguments
from .prefer_results import DEFINITIONS, measure_both, write_answers, write_results
from .preference_trainer import arguments_class, loss_types, trainer_class
from .resuming import weights_fingerprint
from .run_record import Run
from .trainer import ScratchTrainer, early_stopping, saved_weights

EXAMPLE = (
    "hf-gpt-scratch train prefer --model_name_or_path you/follower --dataset_name you/votes --output_dir runs/mine"
)
DEFAULTS = {"num_train_epochs": 3.0, "learning_rate": 1e-5, "max_length": None, "precompute_ref_log_probs": True}
# Of DPOConfig's options, those that are needed most often
OF_TRL = {
    "beta": "How strongly the model is held to what it was: more is closer (default: 0.1).",
    "loss_type": "TRL's loss: sigmoid is DPO's own; hinge, ipo, robust, apo_zero... (default: sigmoid).",
    "label_smoothing": "With loss_type robust: the share of preferences that are expected to be wrong (default: 0).",
    "max_length": "Tokens of a prompt with an answer; by default the model's n_positions.",
    "precompute_ref_log_probs": "Compute what the model was like before once, and keep no copy of it (default: true).",
}


@dataclass
class PreferArguments(ModelArguments):
    """The data and the model; everything about the training itself is TRL's DPOConfig."""

    data_file: str | None = field(
        default=None,
        metadata={
            "help": "Rows of prompt, chosen and rejected: JSON, JSON lines, CSV or Parquet, or a folder of them."
        },
    )
    dataset_name: str | None = field(default=None, metadata={"help": "A Hub data set with these columns."})
    bad_rows: str | None = field(
        default=None,
        metadata={
            "help": "Rows that cannot be used: fail (default for files), or drop (default for Hub data sets).",
            "choices": ["fail", "drop"],
        },
    )
    split_seed: int | None = field(default=None, metadata={"help": "Random seed of the split; --seed by default."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout probability; DPO is trained without."})
    lora_r: int | None = field(default=None, metadata={"help": "Train a LoRA adapter of this rank, such as 16."})
    lora_alpha: int | None = field(default=None, metadata={"help": "LoRA's alpha; by default 2 * lora_r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout of the adapter's input."})
    merge_adapter: bool = field(
        default=False, metadata={"help": "Save the whole model with the adapter merged into it."}
    )
    max_new_tokens: int = field(default=256, metadata={"help": "Longest answer to a test prompt, in tokens."})
    repetition_penalty: float = field(
        default=1.0,
        metadata={"help": "Repetition penalty of the answers: above 1, repeated tokens become less likely."},
    )
    generation_batch_size: int = field(default=32, metadata={"help": "Test prompts per batch."})
    answered_rows: int | None = field(
        default=None, metadata={"help": "Answer only this many test prompts, the first ones."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a lower validation loss."}
    )
    qlora = False  # no option: what `instruct` asks of its settings


def make_parser() -> HfArgumentParser:
    return arguments.make_parser("prefer", PreferArguments, __doc__, EXAMPLE, arguments_class(), **DEFAULTS)


def check(args: PreferArguments, training_args: ScratchTrainingArguments) -> None:
    """
    Looks at the settings before any data is read.

    Raises:
        InputError: when a package that LoRA needs is missing or does not work.
        UsageError: for settings that are missing or contradict each other.
    """
    if not args.model_name_or_path or args.train_tokenizer or args.tokenizer_name:
        raise UsageError(
            "Preferences change a model that answers already: give it with --model_name_or_path, such as the folder of"
            " a `train instruct`, and no other tokenizer."
        )
    if not (args.data_file or args.dataset_name):
        raise UsageError(
            "Give the preferences with --data_file, such as the file that `app compare --export-preferences` writes,"
            " or with --dataset_name."
        )
    if not training_args.beta > 0:
        raise UsageError(f"beta must be above 0, not {training_args.beta}.")
    known = loss_types()
    if unknown := [name for name in training_args.loss_type if known and name not in known]:
        raise UsageError(f"TRL has no loss_type {unknown[0]!r}; choose among {', '.join(known)}.")
    instruct.check(args, training_args)


def make_tokenizer(args: PreferArguments) -> PreTrainedTokenizerBase:
    """The model's tokenizer; raises `InputError` where it has no chat template."""
    tokenizer = args.make_tokenizer(())
    if tokenizer.chat_template is None:
        raise InputError(
            f"The tokenizer of {args.model_name_or_path} has no chat template, so the model was not trained to answer:"
            " first fine-tune it with `hf-gpt-scratch train instruct`."
        )
    return tokenizer


def read_data(args: PreferArguments, split_seed: int) -> tuple[preferences.Preferences, DatasetDict]:
    """The preferences and their split; prints what was found out about them."""
    bad_rows = args.bad_rows or ("drop" if args.dataset_name else "fail")
    data = preferences.load_preferences(args.data_file, args.dataset_name, bad_rows)
    for note in data.notes:
        print(note)
    return data, preferences.split(data.rows, split_seed)


def encode(
    training_args: ScratchTrainingArguments, splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, limit: int
) -> tuple[DatasetDict, dict]:
    """The splits as tokens, and what was cut; `training_args.max_length` is filled in."""
    length = training_args.max_length = training_args.max_length or limit
    if not 8 <= length <= limit:
        raise UsageError(f"max_length must be 8 to {limit}, the context length of the model, not {length}.")
    encoded, cut = preferences.encode_splits(splits, tokenizer, length)
    if any(sum(counts.values()) for counts in cut.values()):
        print(f"Answers cut to {length} tokens with their prompts, and rows left out as too long: {cut}")
    return encoded, cut


def make_trainer(run: Run, tokenizer: PreTrainedTokenizerBase, encoded: DatasetDict, model) -> ScratchTrainer:
    """The trainer of the encoded rows, which adds the adapter where one is asked for."""
    args, training_args = run.args, run.training_args
    adapter = (
        lora_settings(args.lora_r, args.lora_alpha or 2 * args.lora_r, args.lora_dropout) if args.lora_r else None
    )
    keeps_copy = not (adapter or training_args.precompute_ref_log_probs)
    try:
        return trainer_class()(
            model=model,
            ref_model=instruct.make_model(args, tokenizer) if keeps_copy else None,
            args=training_args,
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            processing_class=tokenizer,
            peft_config=adapter,
            callbacks=early_stopping(args.early_stopping_patience, training_args),
            shown_metric="accuracy",
        )
    except InputError:
        raise
    except (ValueError, NotImplementedError) as error:  # TRL refuses settings that contradict each other
        raise_if_starved(error, get_temporary_cache_files_directory())  # it has datasets write the rows anew there
        raise UsageError(f"The settings cannot be used: {one_line(error)}.") from None


def main(argv: Sequence[str] | None = None, program: str | None = None) -> dict:
    """Runs the job with the words behind `hf-gpt-scratch train prefer` and returns what metrics.json has."""
    require_package(*TRL)
    with Run("prefer", make_parser(), argv, program) as run:
        return train(run)


def train(run: Run) -> dict:
    """Trains, measures and saves as the run's settings say; returns what metrics.json has."""
    args, training_args = run.args, run.training_args
    check(args, training_args)

    split_seed = run.split_seed
    data, splits = read_data(args, split_seed)
    tokenizer = make_tokenizer(args)
    if args.lora_r and not args.merge_adapter:
        instruct.check_base(args.model_name_or_path, tokenizer)
    set_seed(training_args.seed)
    model = instruct.make_model(args, tokenizer)
    encoded, cut = encode(training_args, splits, tokenizer, model.config.n_positions)
    reference = weights_fingerprint(model.parameters())
    trainer = make_trainer(run, tokenizer, encoded, model)
    model = trainer.model
    trained_parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sizes_of_model = {"parameters": model.num_parameters(), "trained_parameters": trained_parameters}
    settings = {name: getattr(training_args, name) for name in ("beta", "loss_type", "label_smoothing", "max_length")}
    if not run.train(trainer, sha256=data.sha256, split_seed=split_seed, reference_model=reference, **settings):
        return run.finished(trainer)
    if not trainer.save_final(lambda folder: instruct.merge(folder, args, tokenizer) if args.merge_adapter else None):
        return {}

    state, saved, repo_id = trainer.state, saved_weights(trainer), trainer.hub_model_id
    accelerator = trainer.accelerator
    trainer = model = None  # the optimizer goes with it
    accelerator.free_memory()
    measured, answers = measure_both(run, tokenizer, encoded, lambda: instruct.make_model(args, tokenizer))
    metrics = {
        "task": "preference tuning",
        "measured_on": "test",
        **measured,
        "definitions": DEFINITIONS,
        "sizes": {name: len(rows) for name, rows in encoded.items()},
        "dropped_rows": data.dropped,
        "truncated": cut,
        **sizes_of_model,
        "method": ("LoRA" if args.lora_r else "full") + " tuning by DPO",
        **settings,
        "repetition_penalty": args.repetition_penalty,
        "steps": state.global_step,
        "epochs": state.epoch,
        "split_seed": split_seed,
        "tokenizer": fingerprint(tokenizer),
        **run.facts(source=data.source, sha256=data.sha256),
    }
    metrics["versions"] |= {"trl": version("trl"), **instruct.adapter_versions(args)}
    write_answers(run.output_dir, answers)
    write_results(run, metrics, state.log_history, saved)
    run.finish(repo_id)
    return metrics
