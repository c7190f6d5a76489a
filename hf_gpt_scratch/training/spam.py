"""
Trains a spam classifier on the SMS Spam Collection with transformers' Trainer, and measures it beside a linear model.

    python training/finetune_spam.py training/configs/spam/cpu_small.yaml --output_dir runs/spam

The data is downloaded from UCI, or read from `--data_file`. `--help` lists every setting; each can stand in the YAML
or on the command line. Writes into `--output_dir`: the model (loadable by `AutoModelForSequenceClassification`), its
tokenizer, `metrics.json`, `results/spam.json`, `predictions.csv` and the pictures in `plots/`.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from .arguments import ModelArguments


@dataclass
class SpamArguments(ModelArguments):
    """The data and the model; everything about the training itself is transformers' TrainingArguments."""

    data_file: str | None = field(
        default=None, metadata={"help": "The collection's file or UCI's zip; else downloaded."}
    )
    dataset_name: str | None = field(default=None, metadata={"help": "A Hub data set, such as ucirvine/sms_spam."})
    protocol: str = field(
        default="grouped",
        metadata={
            "help": "grouped: near-copies in one set, natural share of spam. book: the book's, balanced, which leaks.",
            "choices": ["grouped", "book"],
        },
    )
    split_seed: int | None = field(default=None, metadata={"help": "Seed of the grouped split; `seed` by default."})
    prefix_loss_weight: float = field(
        default=0.0, metadata={"help": "Share of the loss taken over every prefix of a message (0 to 1)."}
    )
    word_dropout: float = field(
        default=0.0, metadata={"help": "Probability of leaving a word out whenever a message is trained on."}
    )
    trainable_layers: str = field(
        default="all",
        metadata={"help": "all; head; or a number n: the last n blocks, the final LayerNorm and the head."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better validation metric."}
    )


def make_parser():
    from transformers import HfArgumentParser

    from .arguments import ScratchTrainingArguments

    parser = HfArgumentParser(
        (SpamArguments, ScratchTrainingArguments),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(
        per_device_eval_batch_size=64,
        num_train_epochs=5.0,
        metric_for_best_model="f1",
    )
    return parser


def make_model(args: SpamArguments, tokenizer):
    """The classifier, from pretrained or random weights, with the layers frozen that are not to be trained."""
    from ..data.sms_spam import LABELS
    from ..modeling_gpt_scratch import GPTScratchForSequenceClassification
    from ..utils.errors import UsageError

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


def tokenize(splits, tokenizer, limit: int):
    """The splits with `input_ids` of at most `limit` tokens, and how many messages of each had to be cut to that."""
    encoded = splits.map(
        lambda rows: tokenizer([text.strip() for text in rows["text"]], verbose=False), batched=True, desc="Tokenizing"
    )
    too_long = {name: sum(len(ids) > limit for ids in rows["input_ids"]) for name, rows in encoded.items()}
    if any(too_long.values()):
        print(f"Messages cut to {limit} tokens: {too_long}")
        encoded = encoded.map(lambda row: {key: row[key][:limit] for key in ("input_ids", "attention_mask")})
    return encoded, too_long


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    from ..utils.errors import UsageError
    from .arguments import parse_yaml_and_args, resume_checkpoint, training_settings

    args, training_args = parse_yaml_and_args(make_parser(), argv)
    if args.prefix_loss_weight and training_args.label_smoothing_factor:
        raise UsageError("label_smoothing_factor is for whole messages only: it needs a prefix_loss_weight of 0.")
    if not 0 <= args.word_dropout < 1:
        raise UsageError(f"word_dropout must be at least 0 and below 1, not {args.word_dropout:g}.")

    import numpy as np
    from transformers import DataCollatorWithPadding, set_seed

    from ..data import sms_spam
    from ..data.word_dropout import WordDropout
    from ..evaluation.metrics import BinaryClassification
    from ..hub.push import push_trained
    from ..utils.provenance import command_line, environment, recorded_source
    from .samplers import LengthGroupedTrainer
    from .trainer import early_stopping

    start = time.perf_counter()
    messages = sms_spam.load_messages(args.data_file, args.dataset_name)
    split_seed = training_args.seed if args.split_seed is None else args.split_seed
    splits = sms_spam.split(messages, args.protocol, split_seed)
    set_seed(training_args.seed)
    tokenizer = args.make_tokenizer(splits["train"]["text"])
    model = make_model(args, tokenizer)
    limit = model.config.n_positions
    encoded, too_long = tokenize(splits, tokenizer, limit)
    metric = BinaryClassification()

    def measure(logits, labels) -> dict:
        return metric.compute(predictions=np.argmax(logits, axis=-1), references=labels)

    def compute_metrics(evaluation) -> dict:
        return {key: value for key, value in measure(*evaluation).items() if isinstance(value, float)}

    train = encoded["train"]
    trainer = LengthGroupedTrainer(
        model=model,
        args=training_args,
        train_dataset=WordDropout(train, tokenizer, args.word_dropout) if args.word_dropout else train,
        eval_dataset=encoded["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        callbacks=early_stopping(args.early_stopping_patience, training_args),
    )
    resumed = resume_checkpoint(training_args)
    trained_for = trainer.train(resume_from_checkpoint=resumed).metrics["train_runtime"]
    logits = {name: trainer.predict(encoded[name]).predictions for name in ("validation", "test")}
    results = {name: measure(values, splits[name]["label"]) for name, values in logits.items()}
    tokenizer.model_max_length = limit
    if not trainer.save_final():
        return results
    metrics = {
        "task": "SMS spam classification",
        "protocol": args.protocol,
        "sizes": {name: len(rows) for name, rows in splits.items()},
        "spam": {name: sum(rows["label"]) for name, rows in splits.items()},
        "test_rows_with_a_near_copy_in_train": sms_spam.leaked_rows(splits),
        "truncated_messages": too_long,
        **results["test"],
        "validation": results["validation"],
        "parameters": model.num_parameters(),
        "trained_parameters": model.num_parameters(only_trainable=True),
        "epochs": trainer.state.epoch,
        "train_seconds": None if resumed else trained_for,
        "seconds": round(time.perf_counter() - start, 1),
        "seed": training_args.seed,
        "split_seed": split_seed,
        "settings": training_settings(training_args),
        "base_model": recorded_source(args.model_name_or_path),
        "data": {"source": messages.source, "sha256": messages.sha256, "dataset": args.dataset_name},
        "command": command_line("training/finetune_spam.py", argv),
        **environment(),
    }
    write_results(Path(training_args.output_dir), metrics, splits, logits["test"], trainer.state.log_history)
    push_trained(training_args, trainer.hub_model_id)
    return metrics


def write_results(output_dir: Path, metrics: dict, splits, test_logits, log_history: list[dict]) -> None:
    """Adds the linear model's numbers to `metrics`; writes them, the card, the predictions and the pictures."""
    import pandas as pd
    from scipy.special import softmax

    from ..data.sms_spam import LABELS
    from ..evaluation.metrics import BinaryClassification, f1_difference
    from ..evaluation.plots import plot_confusion_matrix, plot_precision_recall, plot_training
    from ..evaluation.text_classification.baselines import STRONGEST, baseline_scores
    from ..utils.files import write_json
    from ..utils.provenance import environment
    from ..utils.result_card import Metric, ResultCard

    test = splits["test"]
    probabilities = softmax(test_logits.astype(float), axis=-1)[:, 1]
    [scores] = baseline_scores(STRONGEST, splits["train"], test)
    measured = BinaryClassification().compute(predictions=(scores > 0).astype(int), references=test["label"])
    metrics["baseline"] = {"name": STRONGEST, **measured}

    write_json(output_dir / "metrics.json", metrics)
    pd.DataFrame(
        {"text": test["text"], "label": test["label"], "probability": probabilities, STRONGEST: scores}
    ).to_csv(output_dir / "predictions.csv", index=False)
    names = ("f1", "precision", "recall", "mcc", "accuracy")
    gpt, linear = ({name: Metric(row[name], row["intervals"][name]) for name in names} for row in (metrics, measured))
    gpt["f1_above_baseline"] = Metric(*f1_difference(test["label"], probabilities > 0.5, scores > 0))
    linear["f1_above_baseline"] = Metric(0.0)
    leaked = metrics["test_rows_with_a_near_copy_in_train"]
    card = ResultCard(
        task=metrics["task"],
        protocol=f"{metrics['protocol']} split {metrics['split_seed']}: {len(test)} test messages, of which"
        f" {metrics['spam']['test']} are spam and {leaked} have a near-copy in the training set",
        data=[{key: value for key, value in metrics["data"].items() if value}],
        metrics=gpt,
        baselines={STRONGEST: linear},
        seeds=[metrics["seed"]],
        command=metrics["command"],
        environment=environment(),
        predictions="predictions.csv",
    )
    card.write(output_dir, "spam")
    plots = output_dir / "plots"
    plots.mkdir(exist_ok=True)
    plot_training(log_history, plots / "training.png")
    plot_confusion_matrix(metrics["confusion_matrix"], LABELS, plots / "confusion_matrix.png")
    plot_precision_recall(test["label"], {"GPT": probabilities, STRONGEST: scores}, plots / "precision_recall.png")
    print(f"{'':20}" + "".join(f"{name:>10}" for name in names))
    for name, row in (("GPT", gpt), (STRONGEST, linear)):
        print(f"{name:20}" + "".join(f"{row[name].value:10.4f}" for name in names))
    print(f"The model, metrics.json, results/spam.json, predictions.csv and plots/ are in {output_dir}.")
