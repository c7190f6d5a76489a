"""
Trains a classifier on labelled texts of your own and compares it with a linear model.

The texts are a CSV, TSV, JSON, JSON lines or Parquet file, a folder of them, or a Hub data set, with a column for the
text and one for the label: 2 to 1,000 labels, one a text or several. They are split into train, validation and test,
near-copies together. Options come from the config and the command line, which wins. Writes to `--output_dir`: the
model (loads with `AutoModelForSequenceClassification`), its tokenizer, `metrics.json`, `results/classify.json`,
`predictions.csv` and the pictures in `plots/`.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import HfArgumentParser, set_seed

from ..data.labelled_texts import OUTSIDE, LabelledTexts, leaked_rows, load_labelled_texts, split
from . import arguments, classifiers, classify_results
from .arguments import ClassifierArguments
from .classifiers import SHOWN_LABELS
from .run_record import Run

EXAMPLE = "hf-gpt-scratch train classify cpu_small --data_file tickets.csv --output_dir runs/tickets"
DEFAULTS = {"per_device_eval_batch_size": 64, "num_train_epochs": 5.0, "metric_for_best_model": "macro_f1"}
TASKS = {False: "text classification", True: "text classification, several labels a text"}
SHOWN_TEXT = 60  # characters, in the command to go on with


@dataclass
class ClassifyArguments(ClassifierArguments):
    """The data and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None,
        metadata={"help": "The labelled texts: a CSV, TSV, JSON, JSON lines or Parquet file, or a folder of them."},
    )
    dataset_name: str | None = field(default=None, metadata={"help": "A Hub data set, in place of a file."})
    text_column: str | None = field(
        default=None, metadata={"help": "The column of the texts; found out where it is unmistakable."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "The column of the labels; found out where it is unmistakable."}
    )
    multi_label: bool = field(default=False, metadata={"help": "A text may have several labels, or none."})
    bad_rows: str = field(
        default="fail",
        metadata={
            "help": "What to do about rows without a text or a label, or with more cells than there are columns.",
            "choices": ["fail", "drop"],
        },
    )
    outside_labels: list[str] | None = field(
        default=None,
        metadata={
            "help": "Labels that are not learned: their texts stand for what is outside your topics, and `calibrate`"
            " fits a threshold to tell them by."
        },
    )


def make_parser() -> HfArgumentParser:
    return arguments.make_parser("classify", ClassifyArguments, __doc__, EXAMPLE, **DEFAULTS)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> dict:
    """Runs the job with the words behind `hf-gpt-scratch train classify` and returns what metrics.json has."""
    with Run("classify", make_parser(), argv, program) as run:
        return train(run)


def train(run: Run) -> dict:
    """Trains, measures and saves as the run's settings say; returns what metrics.json has."""
    args, training_args = run.args, run.training_args
    classifiers.check_settings(args, training_args, args.multi_label)
    split_seed = run.split_seed
    texts = load(args)
    names, multi_label = texts.names, texts.is_multi_label
    splits, outside = without_outside(split(texts, split_seed))
    print_split(splits, outside, names, split_seed)

    set_seed(training_args.seed)
    tokenizer = args.make_tokenizer(splits["train"]["text"])
    weights = None if multi_label else classifiers.class_weights(args, splits["train"]["label"], names)
    model = classifiers.make_model(args, tokenizer, names, multi_label, weights)
    encoded = classifiers.encode(splits, tokenizer, model.config)
    measure = partial(classify_results.measure, names=names, multi_label=multi_label)
    quick = partial(measure, with_intervals=False)
    trainer = classifiers.make_trainer(run, model, tokenizer, encoded, quick, shown_metric="macro_f1")
    columns = {name: getattr(texts, name) for name in ("text_column", "label_column")}
    if not run.train(trainer, sha256=texts.sha256, split_seed=split_seed, **columns):
        return run.finished(trainer)
    logits = {name: classifiers.predict(trainer, encoded, name) for name in ("validation", "test")}
    results = {name: measure(values, np.asarray(splits[name]["label"])) for name, values in logits.items()}
    if not classifiers.save(trainer):
        return results

    metrics = {
        "task": TASKS[multi_label],
        **describe(texts, splits, split_seed),
        "outside_labels": list(args.outside_labels or []),
        "outside_texts": outside,
        "long_texts": encoded.facts(),
        "class_weights": weights and dict(zip(names, weights)),
        **results["test"],
        "validation": results["validation"],
        "parameters": model.num_parameters(),
        "trained_parameters": model.num_parameters(only_trainable=True),
        "epochs": trainer.state.epoch,
        **run.facts(**{name: getattr(texts, name) for name in ("source", "sha256", "text_column", "label_column")}),
    }
    said = classify_results.compare(metrics, splits, logits["test"])
    classify_results.write(run, metrics, splits["test"], logits["test"], said)
    classify_results.draw(run, metrics, trainer)
    files = ("metrics.json", "results/classify.json", "predictions.csv", "plots/")
    run.say_what_is_there(files, "classify", "--stream", shlex.quote(example_text(splits["test"]["text"])))
    run.finish(trainer.hub_model_id)
    return metrics


def load(args: ClassifyArguments) -> LabelledTexts:
    """The labelled texts that the settings name; prints what was found out about them."""
    texts = load_labelled_texts(
        args.data_file,
        args.dataset_name,
        text_column=args.text_column,
        label_column=args.label_column,
        multi_label=args.multi_label,
        bad_rows=args.bad_rows,
        outside_labels=tuple(args.outside_labels or ()),
    )
    for note in texts.notes:
        print(note)
    return texts


def without_outside(splits: DatasetDict) -> tuple[DatasetDict, dict[str, int]]:
    """The splits without the texts of outside labels, and how many of those there were."""
    known = DatasetDict(
        {
            name: rows.select([i for i, label in enumerate(rows["label"]) if label != OUTSIDE])
            for name, rows in splits.items()
        }
    )
    return known, {name: len(rows) - len(known[name]) for name, rows in splits.items()}


def counts(rows: Dataset, names: Sequence[str]) -> list[int]:
    """How many of the rows have each label."""
    labels = np.asarray(rows["label"], dtype=int)
    if labels.ndim == 2:
        return labels.sum(axis=0).tolist()
    return np.bincount(labels, minlength=len(names)).tolist()


def listed(words: Sequence[str]) -> str:
    """Up to eight of the words, in a sentence."""
    return ", ".join(words[:SHOWN_LABELS]) + (f" and {len(words) - SHOWN_LABELS} more" if words[SHOWN_LABELS:] else "")


def print_split(splits: DatasetDict, outside: dict[str, int], names: Sequence[str], seed: int) -> None:
    """Says which texts are trained and tested on."""
    total = np.sum([counts(rows, names) for rows in splits.values()], axis=0)
    order = np.argsort(-total, kind="stable")
    print(f"{len(names)} labels: {listed([f'{names[i]} ({total[i]})' for i in order])}.")
    sizes = ", ".join(f"{len(rows)} for {name}" for name, rows in splits.items())
    leaked = leaked_rows(splits) or "none"
    print(f"Texts: {sizes} (split seed {seed}; test texts with a near-copy in train: {leaked}).")
    if any(outside.values()):
        parts = " and ".join(f"{count} in {name}" for name, count in outside.items() if count)
        print(f"Texts of outside labels: {parts}; they are not learned, and `hf-gpt-scratch calibrate` measures them.")
    for part in ("validation", "test"):
        missing = [name for name, count in zip(names, counts(splits[part], names)) if not count]
        if missing:
            print(f"note: no text in {part} has the label {listed(missing)}, so it is not measured there.")


def describe(texts: LabelledTexts, splits: DatasetDict, split_seed: int) -> dict:
    """What metrics.json says of the labels and the split."""
    return {
        "protocol": "given" if texts.parts else "grouped",
        "split_seed": split_seed,
        "labels": list(texts.names),
        "multi_label": texts.is_multi_label,
        "sizes": {name: len(rows) for name, rows in splits.items()},
        "texts_by_label": {name: dict(zip(texts.names, counts(rows, texts.names))) for name, rows in splits.items()},
        "test_rows_with_a_near_copy_in_train": leaked_rows(splits),
        "rows_left_out": texts.left_out,
    }


def example_text(texts: Sequence[str]) -> str:
    """The longest of the texts that fit into a command, or the beginning of one."""
    lines = [" ".join(text.split()).lstrip("-") for text in texts]
    fitting = [line for line in lines if len(line) <= SHOWN_TEXT]
    return max(fitting, key=len) if fitting else lines[0][:SHOWN_TEXT].rpartition(" ")[0] or lines[0][:SHOWN_TEXT]
