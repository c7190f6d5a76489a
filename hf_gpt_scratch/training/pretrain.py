"""
Pretrains a GPT on plain text with transformers' Trainer: "The Verdict" by default, files, or a Hub data set.

    python training/pretrain.py training/configs/pretrain/cpu_small.yaml --output_dir runs/verdict

The Verdict is downloaded, or read from `--data_file`. `--help` lists every setting; each can stand in the YAML or on
the command line. Writes into `--output_dir`: the model (loadable by `AutoModelForCausalLM`), its tokenizer,
`metrics.json`, `samples.jsonl` (what the model wrote while it learned) and `plots/training.png`.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from .arguments import ModelArguments

IN_MEMORY = 32_000_000  # characters; a larger text is streamed
TOKENIZER_SAMPLE = 10_000_000  # characters that a tokenizer is trained on, at most


@dataclass
class PretrainArguments(ModelArguments):
    """The text and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None, metadata={"help": "A text file, or a folder of .txt and .md files; else The Verdict."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "A Hub data set, such as roneneldan/TinyStories."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration."})
    dataset_split: str = field(default="train", metadata={"help": "Its split to train on and to validate by."})
    text_column: str = field(default="text", metadata={"help": "Its column that holds the text."})
    validation_share: float = field(default=0.1, metadata={"help": "Share of the characters for validation (0 to 1)."})
    streaming: str = field(
        default="auto",
        metadata={
            "help": "yes: tokenize while training, endlessly, with --max_steps. auto: for a Hub data set and more"
            f" than {IN_MEMORY:,} characters. no: hold the tokens in memory.",
            "choices": ["auto", "yes", "no"],
        },
    )
    max_validation_characters: int = field(
        default=200_000, metadata={"help": "Characters for validation, at most, of a streamed text."}
    )
    shuffle_buffer: int = field(default=4096, metadata={"help": "Rows that a streamed one is drawn from."})
    packing: str = field(
        default="windows",
        metadata={
            "help": "windows: slide over the text. documents: whole documents side by side, unseen by each other.",
            "choices": ["windows", "documents"],
        },
    )
    max_length: int | None = field(default=None, metadata={"help": "Tokens of a row; the model's n_positions."})
    stride: int | None = field(
        default=None, metadata={"help": "Tokens from one training window to the next; max_length."}
    )
    n_embd: int = field(default=768, metadata={"help": "Width of the model, for random weights."})
    n_layer: int = field(default=12, metadata={"help": "Blocks of the model, for random weights."})
    n_head: int = field(default=12, metadata={"help": "Attention heads of the model, for random weights."})
    sample_every: int = field(default=100, metadata={"help": "Steps between two samples; 0 for none."})
    sample_prompt: str = field(default="Every effort moves you", metadata={"help": "What samples go on from."})
    sample_tokens: int = field(default=50, metadata={"help": "Tokens of a sample."})
    temperature: float = field(default=0.8, metadata={"help": "Of samples and of the saved generation config."})
    top_k: int = field(default=40, metadata={"help": "The same; choose among the so many likeliest tokens, 0: all."})


def make_parser():
    from transformers import HfArgumentParser

    from .arguments import ScratchTrainingArguments

    parser = HfArgumentParser(
        (PretrainArguments, ScratchTrainingArguments),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(
        learning_rate=4e-4,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        num_train_epochs=10.0,
        eval_strategy="steps",
        eval_steps=50,
        save_strategy="steps",
        save_steps=500,
        load_best_model_at_end=False,
        include_num_input_tokens_seen=True,
    )
    return parser


def check(args: PretrainArguments, training_args) -> None:
    """Raises `UsageError` for settings that would fail, or mislead, hours later."""
    from ..utils.errors import UsageError

    for name, least in (("shuffle_buffer", 1), ("sample_tokens", 1), ("top_k", 0), ("temperature", 0)):
        if not getattr(args, name) >= least:
            raise UsageError(f"{name} must be at least {least}, not {getattr(args, name)}.")
    if training_args.include_num_input_tokens_seen == "no":
        raise UsageError("The curves are drawn against tokens seen: leave out --include_num_input_tokens_seen.")


def make_model(args: PretrainArguments, tokenizer):
    """The language model, from pretrained or random weights, with the samples' settings as its own."""
    from ..modeling_gpt_scratch import GPTScratchForCausalLM

    model = args.make_model(GPTScratchForCausalLM, tokenizer)
    if args.temperature > 0:
        model.generation_config.update(do_sample=True, temperature=args.temperature, top_k=args.top_k)
    return model


def make_rows(args: PretrainArguments, text, streaming: bool, seed: int):
    """The tokenizer, the model, the layout of rows, the training and validation rows, and how they were split."""
    from transformers import set_seed

    from ..data.rows import PackedDocuments, StreamedRows, Windows
    from ..data.text import split, tokenize
    from ..utils.errors import InputError, UsageError

    train, validation, protocol = split(text, args.validation_share, streaming, args.max_validation_characters)
    set_seed(seed)
    tokenizer = args.make_tokenizer(train.texts(TOKENIZER_SAMPLE))
    model = make_model(args, tokenizer)
    limit = model.config.n_positions
    max_length = limit if args.max_length is None else args.max_length
    if not 2 <= max_length <= limit:
        raise UsageError(f"max_length must be 2 to {limit}, the most that the model reads, not {max_length}.")
    if args.packing == "windows":
        layout = Windows(max_length, max_length if args.stride is None else args.stride)
        validation_layout = Windows(max_length, max_length)
    elif args.stride is not None:
        raise UsageError("--stride is for --packing windows.")
    else:
        layout = validation_layout = PackedDocuments(max_length, tokenizer.eos_token_id)
    if streaming:
        train_rows = StreamedRows(train, tokenizer, layout, args.shuffle_buffer, seed)
    else:
        train_rows = layout.in_memory(tokenize(train, tokenizer))
    validation_rows = validation_layout.in_memory(tokenize(validation, tokenizer))
    for name, rows in (("training", train_rows), ("validation", validation_rows)):
        if not isinstance(rows, StreamedRows) and len(rows) == 0:
            raise InputError(
                f"The {name} part of {text.source} is shorter than a window of {max_length} tokens; give more text, a"
                " smaller --max_length or another --validation_share."
            )
    return tokenizer, model, layout, train_rows, validation_rows, protocol


def sampling_callback(args: PretrainArguments, tokenizer, path: Path, seed: int):
    """A Trainer callback that lets the model write, prints it, and keeps it as a line of JSON in `path`."""
    import torch
    from transformers import TrainerCallback

    from ..generation.sampling import stream_text

    class Sampling(TrainerCallback):
        def on_train_begin(self, arguments, state, control, model=None, **kwargs):
            if state.is_world_process_zero:
                lines = path.read_text(encoding="utf-8").split("\n") if path.exists() and state.global_step else []
                # A resumed run writes again what came after its checkpoint; a killed one may have left half a line.
                kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= state.global_step]
                path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            if state.global_step == 0:  # so that a prompt that does not fit is found now
                self.on_step_end(arguments, state, control, model)

        def on_step_end(self, arguments, state, control, model=None, **kwargs):
            step = state.global_step
            if not args.sample_every or (step % args.sample_every and step != state.max_steps):
                return
            generator = torch.Generator(model.device).manual_seed(seed)  # its own, to leave the training's alone
            settings = {"temperature": args.temperature, "top_k": args.top_k, "generator": generator}
            # By every process: sharded weights (FSDP) come together only if all ask for them.
            pieces = stream_text(model, tokenizer, args.sample_prompt, args.sample_tokens, **settings)
            text = args.sample_prompt + "".join(pieces)
            if state.is_world_process_zero:
                line = {"step": step, "tokens_seen": state.num_input_tokens_seen, "text": text}
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                print(f"step {step}: {' '.join(text.split())}", flush=True)

    return Sampling()


def results(trainer, layout, max_length: int) -> dict:
    """What the training came to, from Trainer's log, and the validation loss of the final weights."""
    from ..tokenizer import fingerprint

    eval_loss = trainer.evaluate()["eval_loss"]
    history = trainer.state.log_history
    last = [entry for entry in history if "loss" in entry][-1:]
    first_step = max((entry["step"] for entry in history if "loss" in entry and entry not in last), default=0) + 1
    evaluations = [entry for entry in history if "eval_loss" in entry]
    best = min(evaluations, key=lambda entry: entry["eval_loss"])
    windows = f"windows of {max_length} tokens side by side; every token but the first counts once, seen from those"
    documents = f"documents of at most {max_length} tokens, longer ones cut; every token but the first of each counts"
    return {
        "train_loss": last[0]["loss"] if last else None,
        "train_loss_is": f"the mean over steps {first_step} to {last[0]['step']}, as logged" if last else None,
        "eval_loss": eval_loss,
        "perplexity": math.exp(eval_loss),
        "perplexity_is": f"exp(eval_loss), per token of the tokenizer {fingerprint(trainer.processing_class)}, of the"
        " saved weights: the validation part in "
        + (f"{windows} before it in its window" if hasattr(layout, "stride") else documents),
        "lowest_eval_loss": {key: best[key] for key in ("step", "eval_loss")},
        "steps": trainer.state.global_step,
        "tokens_seen": trainer.state.num_input_tokens_seen,
        "tokens_per_second": last[0].get("train_tokens_per_second") if last else None,  # evaluations included
    }


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    from ..utils.errors import UsageError
    from .arguments import parse_yaml_and_args, resume_checkpoint, training_settings

    args, training_args = parse_yaml_and_args(make_parser(), argv)

    from ..data.losses import mean_loss, row_losses
    from ..data.packing import LanguageModelCollator
    from ..data.rows import Windows
    from ..data.text import load_text
    from ..evaluation.plots import plot_language_model
    from ..hub.push import push_trained
    from ..utils.files import write_json
    from ..utils.provenance import command_line, environment, recorded_source
    from ..utils.result_card import Metric, ResultCard
    from .trainer import ScratchTrainer

    check(args, training_args)
    start = time.perf_counter()
    text = load_text(args.data_file, args.dataset_name, args.dataset_config, args.dataset_split, args.text_column)
    is_large = text.characters is None or text.characters > IN_MEMORY
    streaming = args.streaming == "yes" or (args.streaming == "auto" and is_large)
    if streaming and training_args.max_steps <= 0:
        raise UsageError("A streamed text has no end: give --max_steps.")
    seed = training_args.seed
    tokenizer, model, layout, train_rows, validation_rows, protocol = make_rows(args, text, streaming, seed)
    is_windows = isinstance(layout, Windows)
    output_dir = Path(training_args.output_dir)
    trainer = ScratchTrainer(
        model=model,
        args=training_args,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        data_collator=layout.collate if is_windows else LanguageModelCollator(tokenizer.pad_token_id),
        compute_metrics=None if is_windows else mean_loss,
        preprocess_logits_for_metrics=None if is_windows else row_losses,
        callbacks=[sampling_callback(args, tokenizer, output_dir / "samples.jsonl", seed)],
    )
    resumed = resume_checkpoint(training_args)
    trained_for = trainer.train(resume_from_checkpoint=resumed).metrics["train_runtime"]
    measured = results(trainer, layout, layout.max_length)
    tokenizer.model_max_length = model.config.n_positions
    if not trainer.save_final():
        return measured

    metrics = {
        "task": "pretraining",
        **measured,
        "epochs": None if streaming else trainer.state.epoch,  # of a stream Trainer knows only the steps
        "split": protocol,
        "rows": {"train": None if streaming else len(train_rows), "validation": len(validation_rows)},
        "packing": args.packing,
        "max_length": layout.max_length,
        "stride": layout.stride if is_windows else None,
        "train_seconds": None if resumed else trained_for,  # Trainer knows those of the last session
        "parameters": model.num_parameters(),
        "vocab_size": model.config.vocab_size,
        "seconds": round(time.perf_counter() - start, 1),
        "seed": seed,
        "settings": training_settings(training_args),
        "base_model": recorded_source(args.model_name_or_path),
        "data": {
            "source": text.source,
            "sha256": text.sha256,
            "revision": text.revision,
            "dataset": args.dataset_name,
        },
        "command": command_line("training/pretrain.py", argv),
        **environment(),
    }
    write_json(output_dir / "metrics.json", metrics)
    losses = {
        "perplexity": measured["perplexity"],
        "eval_loss": measured["eval_loss"],
        "lowest_eval_loss": measured["lowest_eval_loss"]["eval_loss"],
        "train_loss": measured["train_loss"],
    }
    ResultCard(
        task="language modelling",
        protocol=f"{measured['perplexity_is']}; {protocol}",
        data=[{key: value for key, value in metrics["data"].items() if value}],
        metrics={name: Metric(value, higher_is_better=False) for name, value in losses.items() if value is not None},
        seeds=[seed],
        command=metrics["command"],
        environment=environment(),
    ).write(output_dir, "pretraining")
    (output_dir / "plots").mkdir(exist_ok=True)
    plot_language_model(trainer.state.log_history, output_dir / "plots" / "training.png")
    for key in ("train_loss", "eval_loss", "perplexity", "tokens_seen", "tokens_per_second"):
        print(f"{key:20}" + (f"{metrics[key]:14,.4g}" if metrics[key] is not None else f"{'not logged':>14}"))
    print(f"The model, metrics.json, results/pretraining.json, samples.jsonl and plots/ are in {output_dir}.")
    push_trained(training_args, trainer.hub_model_id)
    return metrics
