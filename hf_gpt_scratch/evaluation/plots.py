"""Pictures of a training run and of a classifier's results, each written as a PNG, whole or not at all."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve

from ..utils.files import write_whole

LOSSES = {"loss": "training loss", "eval_loss": "validation loss"}


def plot_training(log_history: list[dict], path: Path, metric: str = "accuracy") -> None:
    """Training and validation loss against steps, and beside them a validation metric, from Trainer's log history."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss_axis, metric_axis = figure.subplots(1, 2)
    _draw_curves(loss_axis, log_history, LOSSES, "loss")
    _draw_curves(metric_axis, log_history, {f"eval_{metric}": f"validation {metric}"}, metric)
    save_figure(figure, path)


def plot_language_model(log_history: list[dict], path: Path) -> None:
    """Training and validation loss against steps (below) and tokens seen (above), from Trainer's log history."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    _draw_curves(axis, log_history, LOSSES, "loss (nats per token)")
    seen = [(entry["num_input_tokens_seen"], entry["step"]) for entry in log_history if entry["step"]]
    tokens_per_step = seen[-1][0] / seen[-1][1]  # all steps see the same number, but for an epoch's last
    tokens = axis.secondary_xaxis("top", functions=(lambda x: x * tokens_per_step, lambda x: x / tokens_per_step))
    tokens.set_xlabel("tokens seen")
    tokens.xaxis.set_major_formatter("{x:,.0f}")
    save_figure(figure, path)


def _draw_curves(axis, log_history: list[dict], labels: dict[str, str], ylabel: str) -> None:
    """What Trainer logged under the keys of `labels` against steps."""
    for key, label in labels.items():
        points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
        if points:
            axis.plot(*zip(*points), label=label, marker="." if key.startswith("eval") else None)
    axis.set(xlabel="step", ylabel=ylabel)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()


def plot_confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Counts of true (rows) against predicted (columns) labels."""
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow([[count / max(sum(row), 1) for count in row] for row in matrix], cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted", ylabel="true", xticks=range(len(labels)), yticks=range(len(labels)))
    axis.set_xticklabels(labels)
    axis.set_yticklabels(labels)
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            axis.text(j, i, f"{count:,}", ha="center", va="center", color="white" if count > sum(row) / 2 else "black")
    save_figure(figure, path)


def plot_precision_recall(labels: Sequence[int], scores: dict[str, Sequence[float]], path: Path) -> None:
    """The precision-recall curve of each model, by name, whose `scores` rise with the probability of spam."""
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    _draw_precision_recall(figure.subplots(), {name: (labels, values) for name, values in scores.items()})
    save_figure(figure, path)


def plot_reliability(models: dict[str, tuple[Sequence[int], Sequence[float]]], path: Path) -> None:
    """By model (labels, probabilities): the share of spam at each predicted probability, and how many rows."""
    figure = Figure(figsize=(5, 5.2), layout="constrained")
    _draw_reliability(*figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)), models)
    save_figure(figure, path)


def plot_classifiers(models: dict[str, tuple[Sequence[int], Sequence[float]]], path: Path) -> None:
    """By model (labels, probabilities): reliability on the left, precision against recall on the right."""
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    left, right = figure.subfigures(1, 2)
    _draw_reliability(*left.subplots(2, 1, sharex=True, height_ratios=(3, 1)), models)
    _draw_precision_recall(right.subplots(), models)
    save_figure(figure, path)


def _draw_precision_recall(axis, models: dict[str, tuple[Sequence[int], Sequence[float]]]) -> None:
    for name, (labels, scores) in models.items():
        precision, recall, _ = precision_recall_curve(labels, scores)
        area = average_precision_score(labels, scores)
        axis.plot(recall, precision, drawstyle="steps-post", label=f"{name}: average precision {area:.3f}")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left", fontsize="small")


def _draw_reliability(axis, counts_axis, models: dict[str, tuple[Sequence[int], Sequence[float]]], bins=10) -> None:
    from .metrics import bin_numbers

    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", label="as it should be")
    for name, (labels, probabilities) in models.items():
        labels, probabilities = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
        bin_of = bin_numbers(probabilities, bins)
        rows = np.bincount(bin_of, minlength=bins)
        filled = rows > 0
        means = (
            np.bincount(bin_of, values, minlength=bins)[filled] / rows[filled] for values in (probabilities, labels)
        )
        axis.plot(*means, marker="o", markersize=4, label=name)
        counts_axis.stairs(rows, np.linspace(0, 1, bins + 1), linewidth=1.5, alpha=0.7, label=name)
    axis.set(ylabel="share that is spam", xlim=(0, 1), ylim=(0, 1))
    counts_axis.set(xlabel="predicted probability of spam", ylabel="messages", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize="small", frameon=False)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_whole(path, picture.getvalue())
