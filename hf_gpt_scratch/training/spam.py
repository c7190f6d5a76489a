"""
Trains a spam classifier on the SMS Spam Collection and compares it with a linear model.

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
from transformers import DataCollatorWithPadding, EvalPrediction, HfArgumentParser, PreTrainedTokenizerBase, set_seed

from ..data import sms_spam
from ..data.sms_spam import LABELS
from ..data.word_dropout import WordDropout
from ..evaluation.metrics import BinaryClassification, f1_difference
from ..evaluation.plots import plot_confusion_matrix, plot_precision_recall, plot_training
from ..evaluation.text_classification.baselines import STRONGEST, baseline_scores
from ..modeling_gpt_scratch import GPTScratchForSequenceClassification
from ..utils.errors import UsageError
from ..utils.result_card import Metric
from . import arguments
from .arguments import ModelArguments, ScratchTrainingArguments
from .run_record import Run
from .samplers import LengthGroupedTrainer
from .trainer import early_stopping, saved_weights

EXAMPLE = "hf-gpt-scratch train spam cpu_small --output_dir runs/spam"
DEFAULTS = {"per_device_eval_batch_size": 64, "num_train_epochs": 5.0, "metric_for_best_model": "f1"}
THRESHOLDS = {"GPT": 0.5, STRONGEST: 0.0}  # a message of a higher score is spam
SHOWN = ("f1", "precision", "recall", "mcc", "accuracy")  # in the card, and at the end of a run


@dataclass
class SpamArguments(ModelArguments):
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
    split_seed: int | None = field(
        default=None, metadata={"help": "Random seed of the grouped split; --seed by default."}
    )
    prefix_loss_weight: float = field(
        default=0.0, metadata={"help": "Weight of the loss on every prefix of a message, 0 to 1."}
    )
    word_dropout: float = field(
        default=0.0, metadata={"help": "Probability of omitting a word of a training message."}
    )
    trainable_layers: str = field(
        default="all",
        metadata={"help": "all, head, or a number n: the last n blocks with the final LayerNorm and the head."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without improvement."}
    )


def make_parser() -> HfArgumentParser:
    return arguments.make_parser("spam", SpamArguments, __doc__, EXAMPLE, **DEFAULTS)


def check(args: SpamArguments, training_args: ScratchTrainingArguments) -> None:
    """Raises `UsageError` for settings that contradict each other."""
    if args.prefix_loss_weight and training_args.label_smoothing_factor:
        raise UsageError("label_smoothing_factor cannot be combined with prefix_loss_weight; omit one of them.")
    if not 0 <= args.word_dropout < 1:
        raise UsageError(f"word_dropout must be at least 0 and below 1, not {args.word_dropout:g}.")


def make_model(args: SpamArguments, tokenizer: PreTrainedTokenizerBase) -> GPTScratchForSequenceClassification:
    """The classifier, from pretrained or random weights, with the layers frozen that are not to be trained."""
    settings = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: i for i, label in enumerate(LABELS)},
        "problem_type": "single_label_classification",
        "prefix_loss_weight": args.prefix_loss_weight,
    }
    model = args.make_model(GPTScratchForSequenceClassification, tokenizer, new_head=True, **settings)
    if args.trainable_layers != "all":
        numbers = [str(number) for number in range(1, model.config.n_layer + 1)]
        if args.trainable_layers not in ("head", *numbers):
            raise UsageError(
                f"trainable_layers must be all, head or 1 to {numbers[-1]}, not {args.trainable_layers!r}."
            )
        blocks = 0 if args.trainable_layers == "head" else int(args.trainable_layers)
        model.requires_grad_(False)
        trained = [model.score, *([model.transformer.ln_f, *model.transformer.h[-blocks:]] if blocks else [])]
        for module in trained:
            module.requires_grad_(True)
    return model


def tokenize(
    splits: DatasetDict, tokenizer: PreTrainedTokenizerBase, limit: int
) -> tuple[DatasetDict, dict[str, int]]:
    """The splits with `input_ids` of at most `limit` tokens, and how many messages of each had to be cut to that."""
    encoded = splits.map(
        lambda rows: tokenizer([text.strip() for text in rows["text"]], verbose=False), batched=True, desc="Tokenizing"
    )
    too_long = {name: sum(len(ids) > limit for ids in rows["input_ids"]) for name, rows in encoded.items()}
    if any(too_long.values()):
        encoded = encoded.map(lambda row: {key: row[key][:limit] for key in ("input_ids", "attention_mask")})
    return encoded, too_long


def measure(logits: np.ndarray, labels: Sequence[int]) -> dict:
    """The numbers of `evaluation.metrics` of logits `(N, 2)`."""
    return BinaryClassification().compute(predictions=np.argmax(logits, axis=-1), references=labels)


def compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
    """Trainer's, of the validation set."""
    return {key: value for key, value in measure(*evaluation).items() if isinstance(value, float)}


def make_trainer(
    run: Run, model: GPTScratchForSequenceClassification, tokenizer: PreTrainedTokenizerBase, encoded: DatasetDict
) -> LengthGroupedTrainer:
    """The Trainer of the tokenized splits."""
    args, train = run.args, encoded["train"]
    return LengthGroupedTrainer(
        model=model,
        args=run.training_args,
        train_dataset=WordDropout(train, tokenizer, args.word_dropout) if args.word_dropout else train,
        eval_dataset=encoded["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        callbacks=early_stopping(args.early_stopping_patience, run.training_args),
        shown_metric="f1",
    )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> dict:
    """Runs the job with the words behind `hf-gpt-scratch train spam` and returns what metrics.json has."""
    run = Run("spam", make_parser(), argv, program)
    args, training_args = run.args, run.training_args
    check(args, training_args)

    messages = sms_spam.load_messages(args.data_file, args.dataset_name)
    split_seed = training_args.seed if args.split_seed is None else args.split_seed
    splits = sms_spam.split(messages, args.protocol, split_seed)
    set_seed(training_args.seed)
    tokenizer = args.make_tokenizer(splits["train"]["text"])
    model = make_model(args, tokenizer)
    encoded, too_long = tokenize(splits, tokenizer, model.config.n_positions)
    if any(too_long.values()):
        shown = ", ".join(f"{count} of {name}" for name, count in too_long.items() if count)
        print(f"Messages cut to the model's {model.config.n_positions} tokens: {shown}.")

    trainer = make_trainer(run, model, tokenizer, encoded)
    run.train(trainer)
    logits = {name: trainer.predict(encoded[name]).predictions for name in ("validation", "test")}
    results = {name: measure(values, splits[name]["label"]) for name, values in logits.items()}
    if not trainer.save_final():
        return results

    metrics = {
        "task": "SMS spam classification",
        "protocol": args.protocol,
        **describe(splits),
        "truncated_messages": too_long,
        **results["test"],
        "validation": results["validation"],
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
    run.push(trainer.hub_model_id)
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
    pd.DataFrame(columns).to_csv(run.output_dir / "predictions.csv", index=False)
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
