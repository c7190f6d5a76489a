"""
Pretrains a GPT on plain text: files, a Hub data set, or by default the story "The Verdict", which is downloaded.

Options come from the config and the command line, which wins. Writes to `--output_dir`: the model (loads with
`AutoModelForCausalLM`), its tokenizer, `metrics.json`, `results/pretraining.json`, `samples.jsonl` (what the model
wrote during training) and `plots/training.png`.
"""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, PreTrainedTokenizerBase, TrainerCallback, set_seed

from ..data.losses import mean_loss, row_losses
from ..data.packing import LanguageModelCollator
from ..data.rows import PackedDocuments, StreamedRows, Windows
from ..data.text import Part, Text, load_text, split, tokenize
from ..evaluation.plots import Saved, plot_language_model
from ..generation.sampling import stream_text
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..tokenizer import fingerprint
from ..utils.errors import InputError, UsageError
from ..utils.files import write_whole
from ..utils.result_card import Metric, rounded
from . import arguments
from .arguments import ModelArguments, ScratchTrainingArguments
from .document_attention import attend_by_document
from .progress import print_line
from .run_record import Run
from .trainer import ScratchTrainer, saved_weights

IN_MEMORY = 32_000_000  # characters; a larger text is streamed
TOKENIZER_SAMPLE = 10_000_000  # characters that a tokenizer is trained on, at most
EXAMPLE = "hf-gpt-scratch train pretrain cpu_small --output_dir runs/verdict"
DEFAULTS = {
    "learning_rate": 4e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "num_train_epochs": 10.0,
    "eval_strategy": "steps",
    "eval_steps": 50,
    "save_strategy": "steps",
    "save_steps": 500,
    "load_best_model_at_end": False,
    "include_num_input_tokens_seen": True,
}


@dataclass
class PretrainArguments(ModelArguments):
    """The text and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None, metadata={"help": "A text file, or a folder of .txt and .md files; else The Verdict."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "A Hub data set, such as roneneldan/TinyStories."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "The data set's configuration."})
    dataset_split: str = field(
        default="train", metadata={"help": "The data set's split to use, for training and for validation."}
    )
    text_column: str = field(default="text", metadata={"help": "The data set's column with the text."})
    validation_share: float = field(
        default=0.1, metadata={"help": "Share of the text for validation, between 0 and 1."}
    )
    streaming: str = field(
        default="auto",
        metadata={
            "help": "yes: tokenize while training, without end; needs --max_steps. no: keep all tokens in memory."
            " auto: yes for a Hub data set or more than 32,000,000 characters, else no.",
            "choices": ["auto", "yes", "no"],
        },
    )
    max_validation_characters: int = field(
        default=200_000, metadata={"help": "At most this many characters for validation, of a streamed text."}
    )
    shuffle_buffer: int = field(default=4096, metadata={"help": "Rows of a streamed text to shuffle among."})
    packing: str = field(
        default="windows",
        metadata={
            "help": "windows: slide over the text. documents: pack whole documents into rows, without attention"
            " between them.",
            "choices": ["windows", "documents"],
        },
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens per row; by default the model's n_positions."}
    )
    stride: int | None = field(
        default=None, metadata={"help": "Tokens from one training window to the next; by default max_length."}
    )
    n_embd: int = field(default=768, metadata={"help": "Embedding size, for random weights."})
    n_layer: int = field(default=12, metadata={"help": "Transformer blocks, for random weights."})
    n_head: int = field(default=12, metadata={"help": "Attention heads, for random weights."})
    sample_every: int = field(default=100, metadata={"help": "Steps between two samples of text; 0 for none."})
    sample_prompt: str = field(default="Every effort moves you", metadata={"help": "Prompt of the samples."})
    sample_tokens: int = field(default=50, metadata={"help": "New tokens per sample."})
    temperature: float = field(
        default=0.8,
        metadata={"help": "Sampling temperature, of samples and in the saved generation config; 0 is greedy."},
    )
    top_k: int = field(default=40, metadata={"help": "Top-k sampling, likewise; 0 for all tokens."})


def make_parser() -> HfArgumentParser:
    return arguments.make_parser("pretrain", PretrainArguments, __doc__, EXAMPLE, **DEFAULTS)


def check(args: PretrainArguments, training_args: ScratchTrainingArguments) -> None:
    """Raises `UsageError` for settings that would fail, or mislead, hours later."""
    for name, least in (("shuffle_buffer", 1), ("sample_tokens", 1), ("top_k", 0), ("temperature", 0)):
        if not getattr(args, name) >= least:
            raise UsageError(f"{name} must be at least {least}, not {getattr(args, name)}.")
    if training_args.include_num_input_tokens_seen == "no":
        raise UsageError("Omit --include_num_input_tokens_seen: the plot needs the number of tokens seen.")


def is_streamed(args: PretrainArguments, training_args: ScratchTrainingArguments, text: Text) -> bool:
    """Whether the text is tokenized while it trains; raises `UsageError` where nothing would end that."""
    is_large = text.characters is None or text.characters > IN_MEMORY
    streaming = args.streaming == "yes" or (args.streaming == "auto" and is_large)
    if streaming and training_args.max_steps <= 0:
        raise UsageError("A streamed text has no end; give --max_steps.")
    return streaming


def make_model(args: PretrainArguments, tokenizer: PreTrainedTokenizerBase) -> GPTScratchForCausalLM:
    """The language model, from pretrained or random weights, with the samples' settings as its own."""
    model = args.make_model(GPTScratchForCausalLM, tokenizer)
    if args.temperature > 0:
        model.generation_config.update(do_sample=True, temperature=args.temperature, top_k=args.top_k)
    return model


def make_layouts(args: PretrainArguments, limit: int, eos_token_id: int) -> list[Windows | PackedDocuments]:
    """How the rows of training and of validation lie over the text, for a model that reads `limit` tokens."""
    max_length = limit if args.max_length is None else args.max_length
    if not 2 <= max_length <= limit:
        raise UsageError(f"max_length must be 2 to {limit}, the context length of the model, not {max_length}.")
    if args.packing == "windows":
        return [
            Windows(max_length, args.stride if args.stride is not None else max_length),
            Windows(max_length, max_length),
        ]
    if args.stride is not None:
        raise UsageError("--stride is for --packing windows; omit it.")
    return [PackedDocuments(max_length, eos_token_id)] * 2


def make_rows(args: PretrainArguments, parts: Sequence[Part], tokenizer, layouts, streaming: bool, seed: int) -> list:
    """The rows of training and of validation; raises `InputError` where a part has not enough text for one."""
    train, validation = parts
    if streaming:
        train_rows = StreamedRows(train, tokenizer, layouts[0], args.shuffle_buffer, seed)
    else:
        train_rows = layouts[0].in_memory(tokenize(train, tokenizer))
    validation_rows = layouts[1].in_memory(tokenize(validation, tokenizer))
    for name, rows in (("training", train_rows), ("validation", validation_rows)):
        if not isinstance(rows, StreamedRows) and len(rows) == 0:
            raise InputError(
                f"The {name} part of {train.text.source} is shorter than a window of {layouts[0].max_length} tokens;"
                " give more text, a smaller --max_length or another --validation_share."
            )
    return [train_rows, validation_rows]


def _step_of(line: str) -> int:
    """Of a line of samples; -1 where it is none, such as half of one, which a killed run has left."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return -1
    return step if isinstance(step, int) else -1


class Sampling(TrainerCallback):
    """Lets the model write every few steps, prints it, and keeps it as a line of JSON in `path`."""

    def __init__(self, args: PretrainArguments, tokenizer: PreTrainedTokenizerBase, path: Path, seed: int):
        self.args, self.tokenizer, self.path, self.seed = args, tokenizer, path, seed

    def on_train_begin(self, arguments, state, control, model=None, **kwargs):
        path = self.path
        if state.is_world_process_zero:
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() and state.global_step else ""
            # A resumed run writes again what came after its checkpoint.
            kept = [line for line in text.split("\n") if 0 <= _step_of(line) <= state.global_step]
            write_whole(path, "".join(f"{line}\n" for line in kept))
        if state.global_step == 0:  # so that a prompt that does not fit is found now
            self.on_step_end(arguments, state, control, model)

    def on_step_end(self, arguments, state, control, model=None, **kwargs):
        args, step = self.args, state.global_step
        if not args.sample_every or (step % args.sample_every and step != state.max_steps):
            return
        generator = torch.Generator(model.device).manual_seed(self.seed)  # its own, to leave the training's alone
        settings = {"temperature": args.temperature, "top_k": args.top_k, "generator": generator}
        # By every process: sharded weights (FSDP) come together only if all ask for them.
        pieces = stream_text(model, self.tokenizer, args.sample_prompt, args.sample_tokens, **settings)
        text = args.sample_prompt + "".join(pieces)
        if state.is_world_process_zero:
            line = {"step": step, "tokens_seen": state.num_input_tokens_seen, "text": text}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            print_line(f"{'':9}| step {step}: {' '.join(text.split())}")


def make_trainer(
    run: Run, model: GPTScratchForCausalLM, tokenizer: PreTrainedTokenizerBase, layout, train_rows, validation_rows
) -> ScratchTrainer:
    """The Trainer of rows in a layout, which lets the model write as it learns."""
    is_windows = isinstance(layout, Windows)
    if not is_windows:
        attend_by_document(model, run.training_args)
    return ScratchTrainer(
        model=model,
        args=run.training_args,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        data_collator=layout.collate if is_windows else LanguageModelCollator(tokenizer.pad_token_id),
        compute_metrics=None if is_windows else mean_loss,
        preprocess_logits_for_metrics=None if is_windows else row_losses,
        callbacks=[Sampling(run.args, tokenizer, run.output_dir / "samples.jsonl", run.training_args.seed)],
    )


def results(trainer, layout, max_length: int) -> dict:
    """What the training came to, from Trainer's log, and the validation loss of the final weights."""
    eval_loss = trainer.evaluate()["eval_loss"]
    history = trainer.state.log_history
    last = [entry for entry in history if "loss" in entry][-1:]
    first_step = max((entry["step"] for entry in history if "loss" in entry and entry not in last), default=0) + 1
    evaluations = [entry for entry in history if "eval_loss" in entry]
    best = min(evaluations, key=lambda entry: entry["eval_loss"])
    windows = f"consecutive windows of {max_length} tokens; each token but the first counts once, predicted from those"
    documents = f"documents of at most {max_length} tokens, longer ones cut; all tokens but the first of each count"
    return {
        "train_loss": last[0]["loss"] if last else None,
        "eval_loss": eval_loss,
        "perplexity": math.exp(eval_loss),
        "lowest_eval_loss": {key: best[key] for key in ("step", "eval_loss")},
        "steps": trainer.state.global_step,
        "tokens_seen": trainer.state.num_input_tokens_seen,
        "tokens_per_second": rounded(last[0].get("train_tokens_per_second")) if last else None,
        "definitions": {
            "train_loss": f"mean over steps {first_step} to {last[0]['step']}, as logged" if last else None,
            "perplexity": f"exp(eval_loss), per token of the tokenizer {fingerprint(trainer.processing_class)}, of"
            " the saved weights: the validation part in "
            + (f"{windows} preceding it in its window" if hasattr(layout, "stride") else documents),
            "tokens_per_second": "training tokens by the time of the run, evaluations included",
        },
    }


def main(argv: Sequence[str] | None = None, program: str | None = None) -> dict:
    """Runs the job with the words behind `hf-gpt-scratch train pretrain` and returns what metrics.json has."""
    with Run("pretrain", make_parser(), argv, program) as run:
        return train(run)


def train(run: Run) -> dict:
    """Trains, measures and saves as the run's settings say; returns what metrics.json has."""
    args, training_args = run.args, run.training_args
    check(args, training_args)

    text = load_text(args.data_file, args.dataset_name, args.dataset_config, args.dataset_split, args.text_column)
    streaming = is_streamed(args, training_args, text)
    *parts, protocol = split(text, args.validation_share, streaming, args.max_validation_characters)
    set_seed(training_args.seed)
    tokenizer = args.make_tokenizer(parts[0].texts(TOKENIZER_SAMPLE))
    model = make_model(args, tokenizer)
    layouts = make_layouts(args, model.config.n_positions, tokenizer.eos_token_id)
    train_rows, validation_rows = make_rows(args, parts, tokenizer, layouts, streaming, training_args.seed)

    layout = layouts[0]
    trainer = make_trainer(run, model, tokenizer, layout, train_rows, validation_rows)
    if not run.train(trainer, sha256=text.sha256, revision=text.revision, split=protocol):
        return run.finished(trainer)
    measured = results(trainer, layout, layout.max_length)
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
        "stride": layout.stride if args.packing == "windows" else None,
        "parameters": model.num_parameters(),
        "vocab_size": model.config.vocab_size,
        **run.facts(source=text.source, sha256=text.sha256, revision=text.revision),
    }
    write_results(run, metrics, trainer.state.log_history, saved_weights(trainer))
    run.finish(trainer.hub_model_id)
    return metrics


def write_results(run: Run, metrics: dict, log_history: list[dict], saved: Saved) -> None:
    """Writes the numbers, the card and the picture, and prints the numbers."""
    losses = {name: metrics[name] for name in ("perplexity", "eval_loss")}
    losses |= {"lowest_eval_loss": metrics["lowest_eval_loss"]["eval_loss"], "train_loss": metrics["train_loss"]}
    run.write(
        "pretraining",
        metrics,
        task="language modelling",
        protocol=f"{metrics['definitions']['perplexity']}; {metrics['split']}",
        numbers={name: Metric(value, higher_is_better=False) for name, value in losses.items() if value is not None},
    )
    plot_language_model(log_history, run.picture("training"), saved)
    train_loss = "not logged" if metrics["train_loss"] is None else f"{metrics['train_loss']:.4g}"
    speed = "" if metrics["tokens_per_second"] is None else f", {metrics['tokens_per_second']:,.0f} a second"
    print(f"\n{'training loss':17}{train_loss}")
    print(f"{'validation loss':17}{metrics['eval_loss']:.4g} (perplexity {metrics['perplexity']:.4g})")
    print(f"{'tokens seen':17}{metrics['tokens_seen']:,}{speed}")
    files = ("metrics.json", "results/pretraining.json", "samples.jsonl", "plots/")
    run.say_what_is_there(files, "generate", f"--prompt {shlex.quote(run.args.sample_prompt)}")
