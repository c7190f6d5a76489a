"""What `train classify` writes and prints when a classifier is trained: its numbers beside a linear model's."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from scipy.special import expit, softmax

from ..evaluation.metrics import Classification, macro_f1_difference, mcnemar
from ..evaluation.plots import plot_confusion_matrix, plot_training
from ..evaluation.text_classification.baselines import STRONGEST, baseline_scores, said_by_scores
from ..utils.files import write_whole
from ..utils.result_card import Metric
from .run_record import Run
from .trainer import saved_weights

# In the card and the table, and what the latter calls them.
ONE_LABEL = {
    "macro_f1": "macro F1",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "mcc": "MCC",
    "accuracy": "accuracy",
}
SEVERAL = {
    "macro_f1": "macro F1",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "micro_f1": "micro F1",
    "subset_accuracy": "all right",
}
MOST_IN_MATRIX = 100  # labels of a confusion matrix in metrics.json; of more it is in the picture alone
MOST_LABELS = 20  # in the table of single labels; of more, those with the lowest F1


def measure(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str], multi_label: bool, with_intervals: bool = True
) -> dict:
    """The numbers of `evaluation.metrics.Classification` of logits `(N, K)`, before any calibration."""
    said = (logits > 0).astype(int) if multi_label else logits.argmax(axis=-1)
    return _numbers(said, labels, names, multi_label, with_intervals)


def _numbers(said, labels, names, multi_label: bool, with_intervals: bool = True) -> dict:
    metric = Classification(names, is_multi_label=multi_label, with_intervals=with_intervals)
    return metric.compute(predictions=said, references=np.asarray(labels).astype(int))


def compare(metrics: dict, splits: DatasetDict, logits: np.ndarray) -> dict[str, np.ndarray]:
    """
    Trains the linear model on the same split, and adds its numbers on the test set, the difference in macro F1 and
    McNemar's test to `metrics`. Returns what each model says: label numbers `(N,)`, or rows of 0 and 1 `(N, K)`.
    """
    names, multi_label = metrics["labels"], metrics["multi_label"]
    labels = np.asarray(splits["test"]["label"]).astype(int)
    [scores] = baseline_scores(STRONGEST, splits["train"], splits["test"], n_labels=len(names))
    said = {"GPT": (logits > 0).astype(int) if multi_label else logits.argmax(axis=-1)}
    said[STRONGEST] = said_by_scores(scores, multi_label)
    right = [rows == labels if rows.ndim == 1 else (rows == labels).all(axis=-1) for rows in said.values()]
    value, interval = macro_f1_difference(labels, *said.values(), n_labels=len(names))
    metrics["baseline"] = {"name": STRONGEST, **_numbers(said[STRONGEST], labels, names, multi_label)}
    metrics["macro_f1_above_baseline"] = {"value": value, "interval": interval}
    metrics["mcnemar"] = mcnemar(*right)
    return said


def write(run: Run, metrics: dict, test: Dataset, logits: np.ndarray, said: dict[str, np.ndarray]) -> None:
    """Writes metrics.json, the card and predictions.csv; prints the numbers of both models."""
    multi_label, names = metrics["multi_label"], metrics["labels"]
    shown = SEVERAL if multi_label else ONE_LABEL
    rows = {
        name: {key: Metric(row[key], row["intervals"][key]) for key in shown}
        for name, row in (("GPT", metrics), (STRONGEST, metrics["baseline"]))
    }
    difference = Metric(**metrics["macro_f1_above_baseline"])
    protocol = (
        f"{metrics['protocol']} split {metrics['split_seed']}: {len(test)} test texts of {len(names)} labels, of which"
        f" {metrics['test_rows_with_a_near_copy_in_train']} have a near-copy in the training set"
    )
    run.write(
        "classify",
        storable(metrics),
        protocol=protocol,
        numbers={**rows["GPT"], "macro_f1_above_baseline": difference},
        baselines={STRONGEST: rows[STRONGEST]},
        predictions="predictions.csv",
    )
    table = predictions(test, logits, said, names, multi_label)
    write_whole(run.output_dir / "predictions.csv", table.to_csv(index=False))
    _print_models(len(test), rows, shown)
    low, high = difference.interval
    print(
        f"Macro F1 of the GPT less the linear model's: {difference.value:+.4f} (95 % interval {low:+.4f} to"
        f" {high:+.4f})."
    )
    test_of = metrics["mcnemar"]
    print(
        f"Texts that only one of them gets right: {test_of['only_ours_right']} the GPT,"
        f" {test_of['only_theirs_right']} the linear model (McNemar's test: p = {test_of['p_value']:.3g})."
    )
    _print_labels(metrics["per_class"])


def storable(metrics: dict) -> dict:
    """The numbers without confusion matrices of so many labels that they would make up most of the file."""
    if len(metrics["labels"]) <= MOST_IN_MATRIX:
        return metrics
    parts = {name: {**metrics[name], "confusion_matrix": None} for name in ("validation", "baseline")}
    return {**metrics, **parts, "confusion_matrix": None}


def predictions(
    test: Dataset, logits: np.ndarray, said: dict[str, np.ndarray], names: Sequence[str], multi_label: bool
) -> pd.DataFrame:
    """A row for each test text: its label, the predicted one, the linear model's, and each label's probability."""

    def named(labels) -> list[str]:
        if multi_label:
            return [", ".join(name for name, is_one in zip(names, row) if is_one) for row in labels]
        return [names[label] for label in labels]

    probabilities = expit(logits.astype(float)) if multi_label else softmax(logits.astype(float), axis=-1)
    columns = {"text": test["text"], "label": named(test["label"]), "predicted": named(said["GPT"])}
    columns[STRONGEST] = named(said[STRONGEST])
    scores = pd.DataFrame(probabilities, columns=[f"probability: {name}" for name in names])
    return pd.concat([pd.DataFrame(columns), scores], axis=1)


def draw(run: Run, metrics: dict, trainer) -> None:
    """Draws the pictures of the run."""
    history, saved = trainer.state.log_history, saved_weights(trainer)
    plot_training(history, run.picture("training"), "macro_f1", saved, "nats per text")
    if not metrics["multi_label"]:
        title = f"Confusion matrix\non the {metrics['sizes']['test']} test texts"
        plot_confusion_matrix(metrics["confusion_matrix"], metrics["labels"], run.picture("confusion_matrix"), title)


def _print_models(texts: int, rows: dict[str, dict[str, Metric]], shown: dict[str, str]) -> None:
    print(f"\n{f'{texts} test texts':20}" + "".join(f"{title:>11}" for title in shown.values()))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[key].value:11.4f}" for key in shown))


def _print_labels(per_class: dict[str, dict]) -> None:
    """Each label's numbers; of many labels, those of the lowest F1."""
    rows, title = list(per_class.items()), "label"
    if len(rows) > MOST_LABELS:
        rows = sorted((row for row in rows if row[1]["support"]), key=lambda row: row[1]["f1"])[:MOST_LABELS]
        title = "lowest F1"
    width = max(20, *(min(len(name), 40) for name, _ in rows))
    print(f"\n{title:{width}}{'F1':>11}{'95 % interval':>20}{'precision':>11}{'recall':>11}{'texts':>8}")
    for name, row in rows:
        low, high = row["intervals"]["f1"] or (0.0, 1.0)
        interval = f"{low:.4f} to {high:.4f}"
        numbers = f"{row['f1']:11.4f}{interval:>20}{row['precision']:11.4f}{row['recall']:11.4f}{row['support']:8}"
        print(f"{name[:40]:{width}}{numbers}")
