"""
Trains a spam classifier on the SMS Spam Collection and compares it with a linear model: the first example of what
`hf-gpt-scratch train classify` does for any labelled texts.

The data is downloaded from UCI, or read from `--data_file`. Options come from the config and the command line, which
wins. Writes to `--output_dir`: the model (loads with `AutoModelForSequenceClassification`), its tokenizer,
`metrics.json`, `results/spam.json`, `predictions.csv` and the pictures in `plots/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from scipy.special import softmax
from transformers import HfArgumentParser, set_seed

from ..data import sms_spam
from ..data.sms_spam import LABELS
from ..evaluation.metrics import BinaryClassification, f1_difference
from ..evaluation.plots import plot_confusion_matrix, plot_precision_recall, plot_training
from ..evaluation.text_classification.baselines import STRONGEST, baseline_scores
from ..utils.files import write_whole
from ..utils.result_card import Metric
from . import arguments, classifiers
from .arguments import ClassifierArguments
from .run_record import Run
from .trainer import saved_weights

EXAMPLE = "hf-gpt-scratch train spam cpu_small --output_dir runs/spam"
DEFAULTS = {"per_device_eval_batch_size": 64, "num_train_epochs": 5.0, "metric_for_best_model": "f1"}
THRESHOLDS = {"GPT": 0.5, STRONGEST: 0.0}  # a message of a higher score is spam
SHOWN = ("f1", "precision", "recall", "mcc", "accuracy")  # in the card, and at the end of a run


@dataclass
class SpamArguments(ClassifierArguments):
    """The data and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None, metadata={"help": "The messages: `label<TAB>text` lines, or UCI's zip; else downloaded."}
    )
    dataset_name: str | None = field(default=None, metadata={"help": "A Hub data set, such as ucirvine/sms_spam."})
    protocol: str = field(
        default="grouped",
        metadata={
            "help": "How to split. grouped: near-copies in one set, natural share of spam. book: the book's split,"
            " half spam, with near-copies of test messages in the training set.",
            "choices": ["grouped", "book"],
        },
    )


def make_parser() -> HfArgumentParser:
    return arguments.make_parser("spam", SpamArguments, __doc__, EXAMPLE, **DEFAULTS)


def measure(logits: np.ndarray, labels: Sequence[int]) -> dict:
    """The numbers of `evaluation.metrics` of logits `(N, 2)`."""
    return BinaryClassification().compute(predictions=np.argmax(logits, axis=-1), references=labels)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> dict:
    """Runs the job with the words behind `hf-gpt-scratch train spam` and returns what metrics.json has."""
    with Run("spam", make_parser(), argv, program) as run:
        return train(run)


def train(run: Run) -> dict:
    """Trains, measures and saves as the run's settings say; returns what metrics.json has."""
    args, training_args = run.args, run.training_args
    classifiers.check_settings(args, training_args, multi_label=False)

    messages = sms_spam.load_messages(args.data_file, args.dataset_name)
    split_seed = run.split_seed
    splits = sms_spam.split(messages, args.protocol, split_seed)
    set_seed(training_args.seed)
    tokenizer = args.make_tokenizer(splits["train"]["text"])
    weights = classifiers.class_weights(args, splits["train"]["label"], LABELS)
    model = classifiers.make_model(args, tokenizer, LABELS, class_weights=weights)
    encoded = classifiers.encode(splits, tokenizer, model.config)
    trainer = classifiers.make_trainer(run, model, tokenizer, encoded, measure, shown_metric="f1")
    if not run.train(trainer, sha256=messages.sha256, split_seed=split_seed):
        return run.finished(trainer)
    logits = {name: classifiers.predict(trainer, encoded, name) for name in ("validation", "test")}
    results = {name: measure(values, splits[name]["label"]) for name, values in logits.items()}
    if not classifiers.save(trainer):
        return results

    metrics = {
        "task": "SMS spam classification",
        "protocol": args.protocol,
        **describe(splits),
        "truncated_messages": encoded.too_long,
        "long_texts": encoded.facts(),
        **results["test"],
        "validation": results["validation"],
        "labels": list(LABELS),
        "multi_label": False,
        "parameters": model.num_parameters(),
        "trained_parameters": model.num_parameters(only_trainable=True),
        "epochs": trainer.state.epoch,
        "split_seed": split_seed,
        **run.facts(source=messages.source, sha256=messages.sha256),
    }
    scores = {"GPT": softmax(logits["test"].astype(float), axis=-1)[:, 1]}
    scores |= {STRONGEST: baseline_scores(STRONGEST, splits["train"], splits["test"])[0]}
    write_results(run, metrics, splits["test"], scores)
    draw(run, metrics, splits["test"]["label"], scores, trainer)
    run.finish(trainer.hub_model_id)
    return metrics


def describe(splits: DatasetDict) -> dict:
    """What metrics.json says of the split."""
    return {
        "sizes": {name: len(rows) for name, rows in splits.items()},
        "spam": {name: sum(rows["label"]) for name, rows in splits.items()},
        "test_rows_with_a_near_copy_in_train": sms_spam.leaked_rows(splits),
    }


def write_results(run: Run, metrics: dict, test: Dataset, scores: dict[str, np.ndarray]) -> None:
    """
    Adds the linear model's numbers to `metrics`; writes them, the card and the predictions; prints both models'
    numbers. `scores` are each model's of the test set: the GPT's probabilities, the linear model's decision values.
    """
    ours, theirs = scores["GPT"], scores[STRONGEST]
    linear = BinaryClassification().compute(predictions=(theirs > 0).astype(int), references=test["label"])
    metrics["baseline"] = {"name": STRONGEST, **linear}
    rows = {
        name: {key: Metric(row[key], row["intervals"][key]) for key in SHOWN}
        for name, row in (("GPT", metrics), (STRONGEST, linear))
    }
    difference = Metric(*f1_difference(test["label"], ours > THRESHOLDS["GPT"], theirs > THRESHOLDS[STRONGEST]))
    protocol = (
        f"{metrics['protocol']} split {metrics['split_seed']}: {len(test)} test messages, of which"
        f" {metrics['spam']['test']} are spam and {metrics['test_rows_with_a_near_copy_in_train']} have a near-copy in"
        " the training set"
    )
    run.write(
        "spam",
        metrics,
        protocol=protocol,
        numbers={**rows["GPT"], "f1_above_baseline": difference},
        baselines={STRONGEST: rows[STRONGEST]},
        predictions="predictions.csv",
    )
    columns = {"text": test["text"], "label": test["label"], "probability": ours, STRONGEST: theirs}
    write_whole(run.output_dir / "predictions.csv", pd.DataFrame(columns).to_csv(index=False))
    size = f"{len(test)} test messages"
    print(f"\n{size:20}" + "".join(f"{name:>10}" for name in SHOWN))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[key].value:10.4f}" for key in SHOWN))
    low, high = difference.interval
    print(f"F1 of the GPT less the linear model's: {difference.value:+.4f} (95 % interval {low:+.4f} to {high:+.4f}).")
    files = ("metrics.json", "results/spam.json", "predictions.csv", "plots/")
    run.say_what_is_there(files, "classify", '"WINNER!! Claim your prize now"')


def draw(run: Run, metrics: dict, labels: Sequence[int], scores: dict[str, np.ndarray], trainer) -> None:
    """Draws the pictures of the run and of its `scores` of the test set."""
    where = f"on the {len(labels)} test messages"
    plot_training(trainer.state.log_history, run.picture("training"), "f1", saved_weights(trainer), "nats per message")
    matrix, title = metrics["confusion_matrix"], f"Confusion matrix\n{where}"
    plot_confusion_matrix(matrix, LABELS, run.picture("confusion_matrix"), title)
    title = f"Precision and recall {where}"
    plot_precision_recall(labels, scores, run.picture("precision_recall"), THRESHOLDS, title)
