"""
Makes a bot of questions and answers (an FAQ): it answers from them, or says that it does not know.

The file has columns `question` and `answer`; `rephrasings` (a list, or texts separated by |) holds other wordings of
the question, and `kind` marks questions that the FAQ does not answer as near-miss or off-topic. Options come from the
config and the command line, which wins. Writes to `--output_dir`: the language model trained on the FAQ, its
tokenizer, `faq.json` (the FAQ, the threshold and the refusal), `metrics.json`, `results/chat.json`, `replies.csv`
and `plots/training.png`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, DatasetDict
from transformers import HfArgumentParser, set_seed

from ..data.faq import ANSWERED, FEWEST, Faq, FaqSplit, load_faq, split
from ..faq.bot import FaqBot, conversation
from ..faq.faq_file import REFUSAL, FaqFile
from ..faq.fitting import fit, with_all_wordings
from ..tokenizer import fingerprint
from ..utils.errors import UsageError
from . import arguments, configs, instruct
from .arguments import ModelArguments, ScratchTrainingArguments
from .chat_results import DEFINITIONS, caution, measure, replies, write_results
from .run_record import Run
from .trainer import saved_weights

EXAMPLE = "hf-gpt-scratch train chat cpu_small --data_file faq.csv --output_dir runs/faq"
DEFAULTS = {"num_train_epochs": 15.0}


@dataclass
class ChatArguments(ModelArguments):
    """The FAQ and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None, metadata={"help": "The FAQ: CSV, TSV, JSON, JSON lines or Parquet; required, or --dataset_name."}
    )
    dataset_name: str | None = field(default=None, metadata={"help": "A Hub data set of questions and answers."})
    question_column: str | None = field(
        default=None, metadata={"help": "The column of the questions, where it is not called question."}
    )
    answer_column: str | None = field(
        default=None, metadata={"help": "The column of the answers, where it is not called answer."}
    )
    split_seed: int | None = field(default=None, metadata={"help": "Random seed of the split; --seed by default."})
    refusal: str = field(default=REFUSAL, metadata={"help": "What the bot says where it does not know."})
    refuse: float = field(
        default=0.9,
        metadata={"help": "The share of the validation questions that the FAQ does not answer which must be refused."},
    )
    lora_r: int | None = field(default=None, metadata={"help": "Train a LoRA adapter of this rank, such as 16."})
    lora_alpha: int | None = field(default=None, metadata={"help": "LoRA's alpha; by default 2 * lora_r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout of the adapter's input."})
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens per row; by default the model's n_positions."}
    )
    max_new_tokens: int = field(default=64, metadata={"help": "Longest answer that the model writes by itself."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a lower validation loss."}
    )
    merge_adapter: bool = field(
        default=False, metadata={"help": "Save the whole model with the adapter merged into it."}
    )

    # What `instruct` asks for besides
    mask_prompt, packing, qlora, repetition_penalty = True, False, False, 1.0
    generation_batch_size = answered_rows = None


def make_parser() -> HfArgumentParser:
    return arguments.make_parser("chat", ChatArguments, __doc__, EXAMPLE, **DEFAULTS)


def check(args: ChatArguments, training_args: ScratchTrainingArguments) -> None:
    """Raises `InputError` or `UsageError` for settings that cannot be, before any data is read."""
    instruct.check(args, training_args)
    if not 0 < args.refuse <= 1:
        raise UsageError(f"refuse must be above 0 and at most 1, not {args.refuse}.")
    if not args.refusal.strip():
        raise UsageError("refusal must be a text: what the bot says where it does not know.")
    if not (args.data_file or args.dataset_name):
        raise UsageError(configs.NO_DATA["chat"])


def load(args: ChatArguments) -> Faq:
    """The FAQ; prints what was found out about its file."""
    faq = load_faq(args.data_file, args.dataset_name, args.question_column, args.answer_column)
    for note in faq.notes:
        print(note)
    phrasings = sum(len(entry.phrasings) for entry in faq.entries)
    print(
        f"{len(faq.entries):,} answers to {phrasings:,} wordings of their questions; {len(faq.unanswered):,} questions"
        " to be refused."
    )
    return faq


def rows_to_learn(parts: FaqSplit) -> DatasetDict:
    """Conversations of one question: each wording with its answer, and those held out for validation."""
    train = [conversation(text, entry.answer) for entry in parts.entries for text in entry.phrasings]
    held_out = parts.validation.of(ANSWERED)
    answers = [parts.entries[number].answer for number in held_out.entries]
    validation = [conversation(*pair) for pair in zip(held_out.questions, answers)]
    # Without rephrasings to hold out, some of the questions show at least how well they are learned.
    return DatasetDict(train=Dataset.from_list(train), validation=Dataset.from_list(validation or train[:FEWEST]))


def main(argv: Sequence[str] | None = None, program: str | None = None) -> dict:
    """Runs the job with the words behind `hf-gpt-scratch train chat` and returns what metrics.json has."""
    with Run("chat", make_parser(), argv, program) as run:
        return train(run)


def train(run: Run) -> dict:
    """Trains, measures and saves as the run's settings say; returns what metrics.json has."""
    args, training_args = run.args, run.training_args
    check(args, training_args)

    data = load(args)
    split_seed = run.split_seed
    parts = split(data, split_seed)
    rows = rows_to_learn(parts)
    tokenizer = instruct.make_tokenizer(args, rows["train"])
    set_seed(training_args.seed)
    model = instruct.make_trained_model(args, training_args, tokenizer)
    encoded, _, _ = instruct.encode(args, rows, tokenizer, model.config.n_positions)

    trainer = instruct.make_trainer(run, model, tokenizer, encoded["train"], encoded["validation"])
    if not run.train(trainer, sha256=data.sha256, split_seed=split_seed):
        return run.finished(trainer)
    print("\nFitting the threshold on the validation questions.")
    bot = FaqBot(FaqFile(parts.entries, 0.0, refusal=args.refusal), model.eval(), tokenizer)
    bot.faq = fit(bot, parts.validation, args.refuse)
    whole = FaqBot(with_all_wordings(bot, data, parts.validation, args.refuse), model, tokenizer)

    def finish(folder: Path) -> None:
        if args.merge_adapter:
            instruct.merge(folder, args, tokenizer)
        whole.faq.write(folder)

    if not trainer.save_final(finish):
        return {}
    print("Asking the test questions.")
    metrics = {
        "task": "answers from an FAQ",
        "measured_on": "test",
        "methods": measure(bot, whole, parts, args.refuse),
        "definitions": DEFINITIONS,
        "entries": len(parts.entries),
        "phrasings": {name: len(part) for name, part in rows.items()}
        | {"test": len(parts.test.of(ANSWERED).questions)},
        "unanswered": len(data.unanswered),
        "threshold": whole.faq.threshold,
        "weights": bot.faq.weights,
        "caution": caution(parts),
        "promise": bot.faq.promise,
        "refuse": args.refuse,
        "parameters": model.num_parameters(),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "split_seed": split_seed,
        "tokenizer": fingerprint(tokenizer),
        **run.facts(source=data.source, sha256=data.sha256),
    }
    said = replies(bot, parts.test, [entry.answer for entry in parts.entries])
    write_results(run, metrics, said, trainer.state.log_history, saved_weights(trainer))
    run.finish(trainer.hub_model_id)
    return metrics
