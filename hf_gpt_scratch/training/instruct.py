"""
Teaches a language model to follow instructions, with transformers' Trainer, then lets it answer the test set.

    python training/finetune_instruct.py training/configs/instruct/cpu_small.yaml --output_dir runs/instruct

The data is the book's set, downloaded, or any in Alpaca's format (`--data_file`, `--dataset_name`). `--help` lists
every setting; each can stand in the YAML or on the command line. Writes into `--output_dir`: the model (loadable by
`AutoModelForCausalLM`; with `--lora_r` or `--qlora` the adapter, by `AutoPeftModelForCausalLM`), its tokenizer with
the chat template of the prompt it was trained on, `responses.json`, `metrics.json` and `plots/training.png`.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from .arguments import ModelArguments


@dataclass
class InstructArguments(ModelArguments):
    """The data and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None, metadata={"help": "A JSON list, or JSON lines, of instruction, input, output; else the book's."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "A Hub data set, such as tatsu-lab/alpaca or yahma/alpaca-cleaned."}
    )
    split_seed: int | None = field(default=None, metadata={"help": "Seed of the split; `seed` by default."})
    n_embd: int = field(default=256, metadata={"help": "Width of the model, for random weights."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens of a row; the model's n_positions."})
    mask_prompt: bool = field(default=False, metadata={"help": "Learn the response only, not the prompt."})
    packing: bool = field(
        default=False, metadata={"help": "Lay rows side by side, unseen by each other, in place of padding."}
    )
    lora_r: int | None = field(default=None, metadata={"help": "Train a LoRA adapter of this rank, such as 16."})
    lora_alpha: int | None = field(default=None, metadata={"help": "What scales it, divided by the rank; 2 * rank."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the adapter."})
    qlora: bool = field(default=False, metadata={"help": "LoRA (of rank 16) on a base model of 4-bit weights."})
    merge_adapter: bool = field(default=False, metadata={"help": "Save the whole model, the adapter merged into it."})
    max_new_tokens: int = field(default=256, metadata={"help": "Longest answer to a test instruction, in tokens."})
    repetition_penalty: float = field(
        default=1.0,
        metadata={"help": "Of answers: above 1, tokens seen before are less likely; saved with a whole model."},
    )
    generation_batch_size: int = field(default=32, metadata={"help": "Test instructions answered at once."})
    answered_rows: int | None = field(default=None, metadata={"help": "Answer only the first so many test rows."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a lower validation loss."}
    )


def make_parser():
    from transformers import HfArgumentParser

    from .arguments import ScratchTrainingArguments

    parser = HfArgumentParser(
        (InstructArguments, ScratchTrainingArguments),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(num_train_epochs=2.0)
    return parser


def check(args: InstructArguments, training_args) -> None:
    """Fills in what one setting says of another; raises `UsageError` for settings that contradict each other."""
    from ..utils.errors import UsageError

    if args.qlora and args.lora_r is None:
        args.lora_r = 16
    if args.lora_r is not None and args.lora_r < 1:
        raise UsageError(f"lora_r must be at least 1, not {args.lora_r}.")
    if args.lora_alpha is not None and args.lora_alpha < 1:
        raise UsageError(f"lora_alpha must be at least 1, not {args.lora_alpha}.")
    if not 0 <= args.lora_dropout < 1:
        raise UsageError(f"lora_dropout must be 0 or more and below 1, not {args.lora_dropout}.")
    if args.lora_r and not args.model_name_or_path:
        raise UsageError("An adapter is trained on a saved model: give --model_name_or_path, or leave out --lora_r.")
    if args.merge_adapter and not args.lora_r:
        raise UsageError("--merge_adapter is for --lora_r or --qlora.")
    if args.merge_adapter and training_args.push_to_hub and training_args.hub_strategy != "end":
        raise UsageError("--merge_adapter true pushes the whole model: leave --hub_strategy at end.")
    if args.lora_r and not args.merge_adapter and training_args.push_to_hub and Path(args.model_name_or_path).is_dir():
        raise UsageError(
            f"An adapter of the folder {args.model_name_or_path} is of use to nobody else: push that folder first and"
            " name its repository by --model_name_or_path, or add --merge_adapter true."
        )
    if not args.repetition_penalty > 0:
        raise UsageError(f"repetition_penalty must be above 0, not {args.repetition_penalty}.")
    for name in ("max_new_tokens", "generation_batch_size", "answered_rows"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UsageError(f"{name} must be at least 1, not {getattr(args, name)}.")


def make_tokenizer(args: InstructArguments, rows):
    from ..prompts import CHAT_TEMPLATE, render_prompt

    tokenizer = args.make_tokenizer(render_prompt(row["instruction"], row["input"]) + row["output"] for row in rows)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(args: InstructArguments, tokenizer, quantization=None):
    """The language model before training, from pretrained or random weights, that stops at the end token."""
    from transformers import GenerationConfig

    from ..modeling_gpt_scratch import GPTScratchForCausalLM

    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    model = args.make_model(GPTScratchForCausalLM, tokenizer, quantization=quantization, **special)
    # A quarter of the context is what every prompt leaves free (data.alpaca.encode_prompt).
    room = min(args.max_new_tokens, model.config.n_positions // 4)
    penalty = {"repetition_penalty": args.repetition_penalty} if args.repetition_penalty != 1 else {}
    model.generation_config = GenerationConfig(**special, **penalty, max_new_tokens=room)
    return model


def make_trained_model(args: InstructArguments, training_args, tokenizer):
    """`make_model`'s, with the adapter to be trained on it where one is asked for."""
    if not args.lora_r:
        return make_model(args, tokenizer)
    import torch

    from ..adapters import add_lora, four_bit, require_peft
    from ..model_folder.contents import ADAPTER_CONFIG, read_config, resolve_source
    from ..utils.errors import UsageError

    require_peft()
    if not args.merge_adapter:  # the adapter will stand alone, and others must be able to use it with its base
        base = resolve_source(args.model_name_or_path)
        if (base / ADAPTER_CONFIG).exists() or read_config(base).get("model_type") != "gpt_scratch":
            raise UsageError(
                f"{args.model_name_or_path} is not a model of this package, and an adapter alone would fit nothing"
                " that others can load: convert it first by hf-gpt-scratch convert, or add --merge_adapter true."
            )
        if read_config(base).get("eos_token_id") != tokenizer.eos_token_id:
            raise UsageError(
                f"{args.model_name_or_path} has another end token than its tokenizer, which an adapter alone would not"
                " stop at: add --merge_adapter true."
            )
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


def merge(folder: Path, args: InstructArguments, tokenizer) -> None:
    """Makes of the folder of an adapter one of the whole model, the adapter merged into the full-precision base."""
    from ..adapters import merge_adapter
    from ..model_folder.contents import ADAPTER_CONFIG

    merge_adapter(make_model(args, tokenizer), folder).save_pretrained(folder)
    for path in (folder / ADAPTER_CONFIG, *folder.glob("adapter_model.*")):
        path.unlink()


def measure(model, tokenizer, rows, args: InstructArguments, quiet: bool) -> tuple[dict, list]:
    """The numbers of `evaluation.instruction.DEFINITIONS` on encoded rows, and the answers."""
    from tqdm import tqdm

    from ..data.losses import perplexities
    from ..evaluation.instruction import repetition_rate
    from ..generation.batch import complete_prompts

    rows = list(rows)
    answered = rows[: args.answered_rows]
    result = perplexities(model, rows, tokenizer.pad_token_id)
    start = time.perf_counter()
    prompts = [row["input_ids"][: row["prompt_length"]] for row in answered]
    with tqdm(total=len(prompts), desc="Answering", disable=quiet) as bar:
        answers = complete_prompts(
            model,
            prompts,
            args.max_new_tokens,
            args.generation_batch_size,
            repetition_penalty=args.repetition_penalty,
            progress=bar.update,
        )
    seconds = time.perf_counter() - start
    stopped = sum(answer.finish_reason == "stop" for answer in answers)
    return {
        **result,
        "stop_rate": stopped / len(answers),
        "repetition_rate": repetition_rate(answer.token_ids for answer in answers),
        "tokens_per_second": (sum(len(answer.token_ids) for answer in answers) + stopped) / seconds,
    }, answers


def measure_both(args: InstructArguments, training_args, tokenizer, encoded) -> tuple[dict, dict, list]:
    """The numbers of what was saved, and of the base model, which the same seed makes again; the former's answers."""
    import torch
    from transformers import set_seed

    from ..data.losses import perplexities
    from ..modeling_gpt_scratch import GPTScratchForCausalLM
    from ..pretrained import load_pretrained

    print("Answering the test instructions, with the trained model and with the base model.")
    device, quiet = training_args.device, training_args.disable_tqdm
    model = load_pretrained(GPTScratchForCausalLM, training_args.output_dir).to(device)
    trained, answers = measure(model, tokenizer, encoded["test"], args, quiet)
    trained["validation"] = perplexities(model, list(encoded["validation"]), tokenizer.pad_token_id)
    model = None  # one at a time, for a GPU that holds no more
    torch.cuda.empty_cache()
    set_seed(training_args.seed)
    base, _ = measure(make_model(args, tokenizer).to(device), tokenizer, encoded["test"], args, quiet)
    return trained, base, answers


def facts(args: InstructArguments, state) -> dict:
    """How it was trained, and with what."""
    from importlib.metadata import version

    from ..utils.provenance import environment

    result = {
        "method": ("QLoRA" if args.qlora else "LoRA" if args.lora_r else "full") + " tuning",
        "mask_prompt": args.mask_prompt,
        "repetition_penalty": args.repetition_penalty,
        "steps": state.global_step,
        "epochs": state.epoch,
        **environment(),
    }
    for package in ("peft", "bitsandbytes")[: 2 if args.qlora else 1 if args.lora_r else 0]:
        result["versions"][package] = version(package)
    return result


def make_card(metrics: dict):
    """The result card: the numbers on the test set, beside those of the model before it was tuned."""
    from ..evaluation.intervals import wilson
    from ..utils.provenance import environment
    from ..utils.result_card import Metric, ResultCard

    answered = metrics["answered_rows"]

    def numbers(row: dict) -> dict:
        stopped = round(row["stop_rate"] * answered)
        return {
            "response_perplexity": Metric(row["response_perplexity"], higher_is_better=False),
            "perplexity": Metric(row["perplexity"], higher_is_better=False),
            "stop_rate": Metric(row["stop_rate"], wilson(stopped, answered)),
            "repetition_rate": Metric(row["repetition_rate"], higher_is_better=False),
        }

    return ResultCard(
        task=metrics["task"],
        protocol=f"split {metrics['split_seed']}: {metrics['sizes']['test']} test rows, {answered} of them answered,"
        f" greedily, with a repetition penalty of {metrics['repetition_penalty']:g}; perplexity per token of the"
        f" tokenizer {metrics['tokenizer']}",
        data=[{key: value for key, value in metrics["data"].items() if value}],
        metrics=numbers(metrics),
        baselines={"before tuning": numbers(metrics["base"])},
        seeds=[metrics["seed"]],
        command=metrics["command"],
        environment=environment(),
        predictions="responses.json",
    )


def write_results(output_dir: Path, metrics: dict, log_history: list[dict]) -> None:
    """Writes the numbers, the card and the picture, and prints a table of the numbers before and after."""
    from ..evaluation.plots import plot_training
    from ..utils.files import write_json

    write_json(output_dir / "metrics.json", metrics)
    make_card(metrics).write(output_dir, "instructions")
    (output_dir / "plots").mkdir(exist_ok=True)
    plot_training(log_history, output_dir / "plots" / "training.png", metric="perplexity")
    keys = ("perplexity", "response_perplexity", "stop_rate", "repetition_rate", "tokens_per_second")
    print(f"{'':8}" + "".join(f"{key:>21}" for key in keys))
    for name, row in (("base", metrics["base"]), ("trained", metrics)):
        print(f"{name:8}" + "".join(f"{row[key]:21.4g}" for key in keys))
    masked = ", which mask_prompt keeps the model from learning" if metrics["mask_prompt"] else ""
    answered, rows = metrics["answered_rows"], metrics["sizes"]["test"]
    print(
        f"The rates are of {answered} answers, the perplexities of {rows} test rows, the first with prompts{masked}."
    )
    print(f"The model, responses.json, metrics.json, results/instructions.json and plots/ are in {output_dir}.")


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    from ..utils.errors import UsageError
    from .arguments import parse_yaml_and_args, resume_checkpoint, training_settings

    args, training_args = parse_yaml_and_args(make_parser(), argv)
    check(args, training_args)

    from datasets import Dataset
    from transformers import set_seed

    from ..data import alpaca
    from ..data.losses import mean_loss, row_losses
    from ..data.packing import LanguageModelCollator, pack
    from ..evaluation.instruction import DEFINITIONS
    from ..hub.push import push_trained
    from ..tokenizer import fingerprint
    from ..utils.files import write_json
    from ..utils.provenance import command_line, recorded_source
    from .samplers import LengthGroupedTrainer
    from .trainer import early_stopping

    start = time.perf_counter()
    data = alpaca.load_instructions(args.data_file, args.dataset_name)
    split_seed = training_args.seed if args.split_seed is None else args.split_seed
    splits = alpaca.split(data.rows, split_seed)
    tokenizer = make_tokenizer(args, splits["train"])
    set_seed(training_args.seed)
    model = make_trained_model(args, training_args, tokenizer)
    limit = tokenizer.model_max_length = model.config.n_positions
    max_length = limit if args.max_length is None else args.max_length
    if not 2 <= max_length <= limit:
        raise UsageError(f"max_length must be 2 to {limit}, the most that the model reads, not {max_length}.")
    encoded, cut = alpaca.encode_splits(splits, tokenizer, max_length, args.mask_prompt)
    train_rows = encoded["train"]
    if args.packing:
        train_rows = Dataset.from_list(pack(train_rows, max_length, training_args.seed))
        print(f"Packed {len(encoded['train'])} training rows into {len(train_rows)} of at most {max_length} tokens.")

    trainer = LengthGroupedTrainer(
        model=model,
        args=training_args,
        train_dataset=train_rows,
        eval_dataset=encoded["validation"],
        processing_class=tokenizer,
        data_collator=LanguageModelCollator(tokenizer.pad_token_id),
        compute_metrics=mean_loss,
        preprocess_logits_for_metrics=row_losses,
        callbacks=early_stopping(args.early_stopping_patience, training_args),
    )
    parameters = {
        "parameters": model.num_parameters(),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    resumed = resume_checkpoint(training_args)
    trained_for = trainer.train(resume_from_checkpoint=resumed).metrics["train_runtime"]
    output_dir = Path(training_args.output_dir)
    if not trainer.save_final(lambda folder: merge(folder, args, tokenizer) if args.merge_adapter else None):
        return {}

    state, accelerator, repo_id = trainer.state, trainer.accelerator, trainer.hub_model_id
    trainer = model = None  # the optimizer goes with it
    accelerator.free_memory()
    trained, base, answers = measure_both(args, training_args, tokenizer, encoded)
    responses = [
        {
            **{name: row[name] for name in alpaca.FIELDS},
            "model_response": tokenizer.decode(
                answer.token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ),
            "finish_reason": answer.finish_reason,
        }
        for row, answer in zip(splits["test"], answers)
    ]
    metrics = {
        "task": "instruction following",
        "measured_on": "test",
        **trained,
        "base": base,
        "definitions": DEFINITIONS,
        "sizes": {name: len(rows) for name, rows in splits.items()},
        "answered_rows": len(answers),
        "leaked_pairs": alpaca.leaked_pairs(splits),
        "dropped_rows": data.dropped,
        "truncated": cut,
        "packed_rows": len(train_rows) if args.packing else None,
        **parameters,
        **facts(args, state),
        "train_seconds": None if resumed else trained_for,
        "seed": training_args.seed,
        "split_seed": split_seed,
        "tokenizer": fingerprint(tokenizer),
        "seconds": round(time.perf_counter() - start, 1),
        "settings": training_settings(training_args),
        "base_model": recorded_source(args.model_name_or_path),
        "data": {"source": data.source, "sha256": data.sha256, "dataset": args.dataset_name},
        "command": command_line("training/finetune_instruct.py", argv),
    }
    write_json(output_dir / "responses.json", responses)
    write_results(output_dir, metrics, state.log_history)
    push_trained(training_args, repo_id)
    return metrics
