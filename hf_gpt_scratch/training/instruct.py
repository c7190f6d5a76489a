"""
Fine-tunes a language model to follow instructions, and lets it answer the test set.

The data is any of questions and answers, or of conversations of several (`--data_file`, `--dataset_name`), or by
default the book's set, which is downloaded. Options come from the config and the command line, which wins. Writes to
`--output_dir`: the model (loads with `AutoModelForCausalLM`; with `--lora_r` or `--qlora` the adapter, with
`AutoPeftModelForCausalLM`), its tokenizer with the training prompt as chat template, `responses.json`,
`metrics.json`, `results/instructions.json` and `plots/training.png`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from transformers import GenerationConfig, HfArgumentParser, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..adapters import add_lora, four_bit, merge_adapter, require_bitsandbytes, require_peft
from ..conversion.generation_settings import generation_config
from ..data import turns
from ..data.conversations import Conversations, load_conversations
from ..data.losses import mean_loss, row_losses
from ..data.packing import LanguageModelCollator, pack
from ..evaluation.instruction import DEFINITIONS, LATER
from ..model_folder.contents import ADAPTER_CONFIG, ModelFolder
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..prompts import chat_template
from ..tokenizer import fingerprint
from ..utils.errors import InputError, UsageError
from ..utils.special_tokens import beginning, end_token_ids
from . import arguments
from .arguments import ModelArguments, ScratchTrainingArguments
from .document_attention import attend_by_document
from .instruct_results import measure_both, write_responses, write_results
from .run_record import Run
from .samplers import LengthGroupedTrainer
from .trainer import early_stopping, saved_weights

EXAMPLE = "hf-gpt-scratch train instruct --train_tokenizer 2000 --output_dir runs/instruct"
DEFAULTS = {"num_train_epochs": 2.0}


@dataclass
class InstructArguments(ModelArguments):
    """The data and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None,
        metadata={
            "help": "JSON, JSON lines, CSV or Parquet with the columns instruction and output, prompt and completion,"
            " question and answer, messages or conversations; else the book's set."
        },
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "A Hub data set, such as tatsu-lab/alpaca or yahma/alpaca-cleaned."}
    )
    bad_rows: str | None = field(
        default=None,
        metadata={
            "help": "Rows without a question or an answer, or with roles out of order: fail (default for files), or"
            " drop (default for Hub data sets).",
            "choices": ["fail", "drop"],
        },
    )
    split_seed: int | None = field(default=None, metadata={"help": "Random seed of the split; --seed by default."})
    n_embd: int = field(default=256, metadata={"help": "Embedding size, for random weights."})
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens per row; by default the model's n_positions."}
    )
    mask_prompt: bool = field(default=False, metadata={"help": "Train on the answers only, not on the prompts."})
    packing: bool = field(
        default=False, metadata={"help": "Pack rows instead of padding them, without attention between them."}
    )
    lora_r: int | None = field(default=None, metadata={"help": "Train a LoRA adapter of this rank, such as 16."})
    lora_alpha: int | None = field(default=None, metadata={"help": "LoRA's alpha; by default 2 * lora_r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout of the adapter's input."})
    qlora: bool = field(
        default=False, metadata={"help": "LoRA (by default of rank 16) on a base model in 4-bit weights."}
    )
    merge_adapter: bool = field(
        default=False, metadata={"help": "Save the whole model with the adapter merged into it."}
    )
    max_new_tokens: int = field(default=256, metadata={"help": "Longest answer to a test instruction, in tokens."})
    repetition_penalty: float = field(
        default=1.0,
        metadata={"help": "Repetition penalty of the answers: above 1, repeated tokens become less likely."},
    )
    generation_batch_size: int = field(default=32, metadata={"help": "Test questions per batch."})
    answered_rows: int | None = field(
        default=None, metadata={"help": "Answer only this many test questions, the first ones."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a lower validation loss."}
    )


def make_parser() -> HfArgumentParser:
    return arguments.make_parser("instruct", InstructArguments, __doc__, EXAMPLE, **DEFAULTS)


def check(args: InstructArguments, training_args: ScratchTrainingArguments) -> None:
    """
    Fills in what one setting says of another, before any data is downloaded.

    Raises:
        InputError: when a package that LoRA or QLoRA needs is missing or does not work.
        UsageError: for settings that contradict each other.
    """
    if args.qlora and args.lora_r is None:
        args.lora_r = 16
    if args.lora_r:
        require_peft()
    if args.qlora:
        require_bitsandbytes()
    if args.lora_r is not None and args.lora_r < 1:
        raise UsageError(f"lora_r must be at least 1, not {args.lora_r}.")
    if args.lora_alpha is not None and args.lora_alpha < 1:
        raise UsageError(f"lora_alpha must be at least 1, not {args.lora_alpha}.")
    if not 0 <= args.lora_dropout < 1:
        raise UsageError(f"lora_dropout must be 0 or more and below 1, not {args.lora_dropout}.")
    if args.lora_r and not args.model_name_or_path:
        raise UsageError("An adapter needs a pretrained model: give --model_name_or_path, or omit --lora_r.")
    if args.merge_adapter and not args.lora_r:
        raise UsageError("--merge_adapter needs --lora_r or --qlora.")
    if args.merge_adapter and training_args.push_to_hub and training_args.hub_strategy != "end":
        raise UsageError("--merge_adapter true pushes the whole model: omit --hub_strategy.")
    if args.lora_r and not args.merge_adapter and training_args.push_to_hub and Path(args.model_name_or_path).is_dir():
        raise UsageError(
            f"An adapter of the local folder {args.model_name_or_path} would not load elsewhere: train without"
            " --push_to_hub, push that folder and then the adapter with `hf-gpt-scratch push --base-model`; or add"
            " --merge_adapter true to push the whole model."
        )
    if not args.repetition_penalty > 0:
        raise UsageError(f"repetition_penalty must be above 0, not {args.repetition_penalty}.")
    for name in ("max_new_tokens", "generation_batch_size", "answered_rows"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UsageError(f"{name} must be at least 1, not {getattr(args, name)}.")


def load(args: InstructArguments) -> Conversations:
    """The conversations; prints which shape they were found to have."""
    data = load_conversations(
        args.data_file, args.dataset_name, args.bad_rows or ("drop" if args.dataset_name else "fail")
    )
    for note in data.notes:
        print(note)
    count = sum(len(turns.exchanges(row)) > 1 for row in data.rows)
    several = f", {count:,} of them of several questions" if count else ""
    dropped = f"; {data.dropped:,} bad rows were left out" if data.dropped else ""
    print(f"{len(data.rows):,} rows ({data.shape}){several}{dropped}.")
    return data


def conversation_counts(splits: DatasetDict) -> dict[str, int]:
    """How many conversations have several questions or a system message, and what that may leak."""
    rows = [row for part in splits.values() for row in part]
    return {
        "with_several_questions": sum(len(turns.exchanges(row)) > 1 for row in rows),
        "with_system_message": sum(bool(turns.system_of(row)) for row in rows),
        "repeated_exchanges": turns.repeated_exchanges(splits),
    }


def make_tokenizer(args: InstructArguments, rows: Dataset) -> PreTrainedTokenizerBase:
    """The tokenizer, trained on the conversations or loaded, with the prompt as its chat template."""
    tokenizer = args.make_tokenizer("".join(turns.texts(row)) for row in rows)
    tokenizer.chat_template = chat_template(bool(beginning(tokenizer)), turns.is_conversational(rows))
    return tokenizer


def make_model(args: InstructArguments, tokenizer, quantization=None):
    """The language model before training, from pretrained or random weights, that stops at the EOS tokens."""
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "pad")}
    model = args.make_model(GPTScratchForCausalLM, tokenizer, quantization=quantization, **special)
    special["eos_token_id"] = model.config.eos_token_id
    # A quarter of the context is what every prompt leaves free (data.turns.encode_prompt).
    room = min(args.max_new_tokens, model.config.n_positions // 4)
    penalty = {"repetition_penalty": args.repetition_penalty} if args.repetition_penalty != 1 else {}
    model.generation_config = GenerationConfig(**special, **penalty, max_new_tokens=room)
    return model


def make_trained_model(
    args: InstructArguments, training_args: ScratchTrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """`make_model`'s, with the adapter to be trained on it where one is asked for."""
    if not args.lora_r:
        return make_model(args, tokenizer)
    if not args.merge_adapter:
        check_base(args.model_name_or_path, tokenizer)
    quantization = None
    if args.qlora:
        compute = torch.bfloat16 if training_args.bf16 else torch.float16 if training_args.fp16 else torch.float32
        quantization = four_bit(compute)
    return add_lora(
        make_model(args, tokenizer, quantization),
        rank=args.lora_r,
        alpha=args.lora_alpha or 2 * args.lora_r,
        dropout=args.lora_dropout,
        activation_checkpointing=training_args.activation_checkpointing,
    )


def check_base(name_or_path: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises `UsageError` unless others can use an adapter that stands alone with this base."""
    base = ModelFolder.resolve(name_or_path)
    if base.is_adapter:
        raise UsageError(
            f"{name_or_path} is an adapter itself, and nobody could load an adapter of an adapter: add --merge_adapter"
            " true, or omit --lora_r to train the whole model."
        )
    if not base.is_native:
        raise UsageError(
            f"{name_or_path} is not in this package's format, so others could not load an adapter of it: convert it"
            " first with `hf-gpt-scratch convert`, or add --merge_adapter true."
        )
    if tokenizer.eos_token_id not in end_token_ids(base.config, generation_config(base.path, base.config)):
        raise UsageError(
            f"{name_or_path} and its tokenizer have different EOS tokens, so an adapter alone would not stop: add"
            " --merge_adapter true."
        )


def merge(folder: Path, args: InstructArguments, tokenizer) -> None:
    """Makes of the folder of an adapter one of the whole model, the adapter merged into the full-precision base."""
    merge_adapter(make_model(args, tokenizer), folder).save_pretrained(folder)
    for path in (folder / ADAPTER_CONFIG, *folder.glob("adapter_model.*")):
        path.unlink()


def check_lengths(splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int, limit: int) -> None:
    """Raises `InputError` where instructions, even without their inputs, leave no room for an answer."""
    rows = [row for part in splits.values() for row in part]
    count = sum(turns.is_too_long(tokenizer, row, max_length) for row in rows)
    if count:
        way = f"--max_length up to {limit}" if max_length < limit else "a model with a larger n_positions"
        raise InputError(
            f"{count} of {len(rows)} rows have an instruction that is too long: of {max_length} tokens, a"
            f" quarter is kept for the answer; use {way}, or remove these rows from the data."
        )


def encode(
    args: InstructArguments, splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, limit: int
) -> tuple[DatasetDict, dict, int]:
    """The splits as tokens, how many prompts and responses had to be cut, and the tokens that a row has at most."""
    max_length = limit if args.max_length is None else args.max_length
    if not 2 <= max_length <= limit:
        raise UsageError(f"max_length must be 2 to {limit}, the context length of the model, not {max_length}.")
    check_lengths(splits, tokenizer, max_length, limit)
    encoded, cut = turns.encode_splits(splits, tokenizer, max_length, args.mask_prompt)
    if any(counts["prompts"] + counts["responses"] for counts in cut.values()):
        print(f"Prompts and responses cut to {max_length} tokens together: {cut}")
    if left_out := sum(counts["exchanges"] for counts in cut.values()):
        print(f"Of conversations longer than {max_length} tokens, the last {left_out:,} exchanges were left out.")
    return encoded, cut, max_length


def pack_rows(rows: Dataset, max_length: int, seed: int) -> Dataset:
    """The rows side by side, by `data.packing`."""
    packed = Dataset.from_list(pack(rows, max_length, seed))
    print(f"Packed {len(rows)} training rows into {len(packed)} rows of at most {max_length} tokens.")
    return packed


def make_trainer(
    run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train_rows: Dataset, validation_rows: Dataset
) -> LengthGroupedTrainer:
    """The Trainer of encoded rows; packed ones attend by document where that is faster."""
    by_document = run.args.packing and attend_by_document(model, run.training_args)
    return LengthGroupedTrainer(
        model=model,
        args=run.training_args,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        data_collator=LanguageModelCollator(tokenizer.pad_token_id, join_packed=by_document),
        compute_metrics=mean_loss,
        preprocess_logits_for_metrics=row_losses,
        callbacks=early_stopping(run.args.early_stopping_patience, run.training_args),
        shown_metric="perplexity",
    )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> dict:
    """Runs the job with the words behind `hf-gpt-scratch train instruct` and returns what metrics.json has."""
    with Run("instruct", make_parser(), argv, program) as run:
        return train(run)


def train(run: Run) -> dict:
    """Trains, measures and saves as the run's settings say; returns what metrics.json has."""
    args, training_args = run.args, run.training_args
    check(args, training_args)

    data = load(args)
    split_seed = run.split_seed
    splits = turns.split(data.rows, split_seed)
    tokenizer = make_tokenizer(args, splits["train"])
    set_seed(training_args.seed)
    model = make_trained_model(args, training_args, tokenizer)
    encoded, cut, max_length = encode(args, splits, tokenizer, model.config.n_positions)
    train_rows = pack_rows(encoded["train"], max_length, training_args.seed) if args.packing else encoded["train"]

    trainer = make_trainer(run, model, tokenizer, train_rows, encoded["validation"])
    trained_parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sizes_of_model = {"parameters": model.num_parameters(), "trained_parameters": trained_parameters}
    if not run.train(trainer, sha256=data.sha256, split_seed=split_seed):
        return run.finished(trainer)
    if not trainer.save_final(lambda folder: merge(folder, args, tokenizer) if args.merge_adapter else None):
        return {}

    state, saved = trainer.state, saved_weights(trainer)
    accelerator, repo_id = trainer.accelerator, trainer.hub_model_id
    kept_answers = [len(row["answers"]) for row in encoded["test"]]
    trainer = model = None  # the optimizer goes with it
    accelerator.free_memory()
    trained, base, answers = measure_both(args, training_args, tokenizer, encoded, lambda: make_model(args, tokenizer))
    metrics = {
        "task": "instruction following",
        "measured_on": "test",
        **trained,
        "base": base,
        "definitions": DEFINITIONS | (LATER if LATER.keys() & trained.keys() else {}),
        "sizes": {name: len(rows) for name, rows in splits.items()},
        "answered_rows": len(answers),
        "shape": data.shape,
        **conversation_counts(splits),
        "leaked_pairs": turns.leaked_pairs(splits),
        "dropped_rows": data.dropped,
        "truncated": cut,
        "packed_rows": len(train_rows) if args.packing else None,
        **sizes_of_model,
        **method(args, state),
        "split_seed": split_seed,
        "tokenizer": fingerprint(tokenizer),
        **run.facts(source=data.source, sha256=data.sha256),
    }
    metrics["versions"] |= adapter_versions(args)
    write_responses(run.output_dir, splits["test"], kept_answers, answers, tokenizer)
    write_results(run, metrics, state.log_history, saved)
    run.finish(repo_id)
    return metrics


def method(args: InstructArguments, state) -> dict:
    """How it was trained."""
    return {
        "method": ("QLoRA" if args.qlora else "LoRA" if args.lora_r else "full") + " tuning",
        "mask_prompt": args.mask_prompt,
        "repetition_penalty": args.repetition_penalty,
        "steps": state.global_step,
        "epochs": state.epoch,
    }


def adapter_versions(args: InstructArguments) -> dict[str, str]:
    """Those of the packages that an adapter takes, besides those of every run."""
    packages = ("peft", "bitsandbytes")[: 2 if args.qlora else 1 if args.lora_r else 0]
    return {package: version(package) for package in packages}
