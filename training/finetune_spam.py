"""
Trains a spam classifier on the SMS Spam Collection with transformers' Trainer, and measures it beside a linear model.

    python training/finetune_spam.py training/configs/spam/cpu_small.yaml --output_dir runs/spam

The data is downloaded from UCI, or read from `--data_file`. `--help` lists every setting; each can stand in the YAML
or on the command line. Writes into `--output_dir`: the model (loadable by `AutoModelForSequenceClassification`), its
tokenizer, `metrics.json` and the pictures in `plots/`.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from hf_gpt_scratch.model_arguments import ModelArguments


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
    trainable_layers: str = field(
        default="all",
        metadata={"help": "all; head; or a number n: the last n blocks, the final LayerNorm and the head."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better validation metric."}
    )


def make_parser():
    from transformers import HfArgumentParser

    from hf_gpt_scratch.training_arguments import ScratchTrainingArguments

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
    from hf_gpt_scratch import GPTScratchForSequenceClassification
    from hf_gpt_scratch.data.sms_spam import LABELS
    from hf_gpt_scratch.errors import UsageError

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


def main(argv: list[str] | None = None) -> dict:
    argv = sys.argv[1:] if argv is None else argv
    from hf_gpt_scratch.errors import UsageError
    from hf_gpt_scratch.training_arguments import parse_yaml_and_args, resume_checkpoint

    args, training_args = parse_yaml_and_args(make_parser(), argv)
    if args.prefix_loss_weight and training_args.label_smoothing_factor:
        raise UsageError("label_smoothing_factor is for whole messages only: it needs a prefix_loss_weight of 0.")

    import numpy as np
    from scipy.special import softmax
    from transformers import DataCollatorWithPadding, set_seed

    from hf_gpt_scratch.data import sms_spam
    from hf_gpt_scratch.data.sampling import LengthGroupedTrainer
    from hf_gpt_scratch.evaluation.baseline import baseline_scores
    from hf_gpt_scratch.evaluation.metrics import BinaryClassification
    from hf_gpt_scratch.evaluation.plots import plot_confusion_matrix, plot_precision_recall, plot_training
    from hf_gpt_scratch.provenance import command_line, environment
    from hf_gpt_scratch.saving import write_json
    from hf_gpt_scratch.trainer import early_stopping

    start = time.perf_counter()
    messages = sms_spam.load_messages(args.data_file, args.dataset_name)
    splits = sms_spam.split(
        messages, args.protocol, training_args.seed if args.split_seed is None else args.split_seed
    )
    set_seed(training_args.seed)
    tokenizer = args.make_tokenizer(splits["train"]["text"])
    model = make_model(args, tokenizer)

    limit = model.config.n_positions
    encoded = splits.map(
        lambda rows: tokenizer([text.strip() for text in rows["text"]], verbose=False), batched=True, desc="Tokenizing"
    )
    too_long = {name: sum(len(ids) > limit for ids in rows["input_ids"]) for name, rows in encoded.items()}
    if any(too_long.values()):
        print(f"Messages cut to {limit} tokens: {too_long}")
        encoded = encoded.map(lambda row: {key: row[key][:limit] for key in ("input_ids", "attention_mask")})

    metric = BinaryClassification()

    def measure(logits, labels) -> dict:
        return metric.compute(predictions=np.argmax(logits, axis=-1), references=labels)

    def compute_metrics(evaluation) -> dict:
        return {key: value for key, value in measure(*evaluation).items() if isinstance(value, float)}

    trainer = LengthGroupedTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        callbacks=early_stopping(args.early_stopping_patience, training_args),
    )
    resumed = resume_checkpoint(training_args)
    trained_for = trainer.train(resume_from_checkpoint=resumed).metrics["train_runtime"]
    results = {}
    for name in ("validation", "test"):
        logits = trainer.predict(encoded[name]).predictions
        results[name] = measure(logits, splits[name]["label"])
    output_dir = Path(training_args.output_dir)
    tokenizer.model_max_length = limit
    if not trainer.publish():
        return results
    probabilities = softmax(logits.astype(float), axis=-1)[:, 1]
    baseline = baseline_scores(splits["train"], splits["test"])

    metrics = {
        "task": "SMS spam classification",
        "protocol": args.protocol,
        "sizes": {name: len(rows) for name, rows in splits.items()},
        "spam": {name: sum(rows["label"]) for name, rows in splits.items()},
        "test_rows_with_a_near_copy_in_train": sms_spam.leaked_rows(splits),
        "truncated_messages": too_long,
        **results["test"],
        "validation": results["validation"],
        "baseline": {
            "name": "TF-IDF + LinearSVC",
            **metric.compute(predictions=(baseline > 0).astype(int), references=splits["test"]["label"]),
        },
        "parameters": model.num_parameters(),
        "trained_parameters": model.num_parameters(only_trainable=True),
        "epochs": trainer.state.epoch,
        "train_seconds": None if resumed else trained_for,
        "seconds": round(time.perf_counter() - start, 1),
        "seed": training_args.seed,
        "data": {"source": messages.source, "sha256": messages.sha256},
        "command": command_line("training/finetune_spam.py", argv),
        **environment(),
    }
    write_json(output_dir / "metrics.json", metrics)
    plots = output_dir / "plots"
    plots.mkdir(exist_ok=True)
    plot_training(trainer.state.log_history, plots / "training.png")
    plot_confusion_matrix(metrics["confusion_matrix"], sms_spam.LABELS, plots / "confusion_matrix.png")
    plot_precision_recall(
        splits["test"]["label"],
        {"GPT": probabilities, "TF-IDF + LinearSVC": baseline},
        plots / "precision_recall.png",
    )
    print(f"{'':20}{'accuracy':>10}{'precision':>10}{'recall':>10}{'F1':>10}{'MCC':>10}")
    for name, row in (("GPT", metrics), (metrics["baseline"]["name"], metrics["baseline"])):
        values = (row[key] for key in ("accuracy", "precision", "recall", "f1", "mcc"))
        print(f"{name:20}" + "".join(f"{value:10.4f}" for value in values))
    print(f"The model, metrics.json and plots/ are in {output_dir}.")
    return metrics


if __name__ == "__main__":
    from hf_gpt_scratch.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
