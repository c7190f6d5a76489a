"""Pictures of a training run and of a classifier's results, each written as a PNG, whole or not at all."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from sklearn.metrics import average_precision_score, precision_recall_curve

from ..utils.files import write_whole

# Okabe and Ito (2008): colours that colour-blind people can tell apart. Line styles differ too, for print.
BLUE, VERMILION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "0.45"
STYLES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"))
LOSSES = {"loss": ("training loss", BLUE), "eval_loss": ("validation loss", VERMILION)}
SHARES = ("accuracy", "f1", "macro_f1", "micro_f1", "subset_accuracy", "precision", "recall", "mcc")
MOST_NUMBERS, MOST_NAMES = 20, 60  # labels of a confusion matrix
NAMES = {"f1": "F1", "macro_f1": "macro F1", "micro_f1": "micro F1", "mcc": "MCC", "loss": "loss", "eval_loss": "loss"}


@dataclass(frozen=True)
class Saved:
    """
    Which weights of a run were saved.

    Attributes:
        step: after which they were.
        metric: the metric of the validation set that they are the best by, such as f1 or loss; `None` where they are
            the last ones.
        epoch: that of the step, where it is known.
    """

    step: int
    metric: str | None = None
    epoch: float | None = None

    @property
    def label(self) -> str:
        when = f"step {self.step:,}" + (f", epoch {self.epoch:.4g}" if self.epoch else "")
        why = f"chosen by validation {NAMES.get(self.metric, self.metric)}" if self.metric else "the last step"
        return f"the saved model ({when}), {why}"


def plot_training(
    log_history: list[dict], path: Path, metric: str = "accuracy", saved: Saved | None = None, unit: str = "nats"
) -> None:
    """
    Training and validation loss against steps, and beside them a validation metric, from Trainer's log history.

    Args:
        saved: the weights that were saved, marked on the curve that they were chosen by.
        unit: of the losses, such as "nats per token".
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    loss_axis, metric_axis = figure.subplots(1, 2)
    name = NAMES.get(metric, metric)
    _draw_curves(loss_axis, log_history, LOSSES, f"cross-entropy ({unit})", saved)
    _draw_curves(metric_axis, log_history, {f"eval_{metric}": (f"validation {name}", GREEN)}, name, saved)
    loss_axis.set_title("Loss")
    metric_axis.set_title(f"Validation {name}")
    if metric in SHARES and metric_axis.lines:
        _widen(metric_axis, at_least=0.1, lowest=-1.02 if metric == "mcc" else -0.02, highest=1.02)
    elif metric == "perplexity":
        _log_if_wide(metric_axis)
    _mark_saved(figure, saved)
    save_figure(figure, path)


def plot_language_model(log_history: list[dict], path: Path, saved: Saved | None = None) -> None:
    """Training and validation loss against steps (below) and tokens seen (above), from Trainer's log history."""
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    axis = figure.subplots()
    _draw_curves(axis, log_history, LOSSES, "cross-entropy (nats per token)", saved)
    seen = [(entry["num_input_tokens_seen"], entry["step"]) for entry in log_history if entry["step"]]
    tokens_per_step = seen[-1][0] / seen[-1][1]  # all steps see the same number, but for an epoch's last
    tokens = axis.secondary_xaxis("top", functions=(lambda x: x * tokens_per_step, lambda x: x / tokens_per_step))
    tokens.set_xlabel("tokens seen")
    tokens.xaxis.set_major_locator(MaxNLocator(6))
    tokens.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_title("Loss while pretraining")
    _mark_saved(figure, saved)
    save_figure(figure, path)


def _draw_curves(
    axis, log_history: list[dict], curves: Mapping[str, tuple[str, str]], ylabel: str, saved: Saved | None
) -> None:
    """What Trainer logged under the keys of `curves` against steps; the values are their labels and colours."""
    for key, (label, colour) in curves.items():
        points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
        if not points:
            continue
        is_evaluation = key.startswith("eval")
        size = 8 if len(points) == 1 else 4
        marker = "o" if is_evaluation or len(points) == 1 else None
        axis.plot(*zip(*points), label=label, color=colour, marker=marker, markersize=size)
        values = dict(points)
        if saved and saved.step in values and is_evaluation:
            axis.lines[-1].set_label(f"{label} ({values[saved.step]:.4g})")
            if saved.metric is None or key == f"eval_{saved.metric}":
                spot = {"marker": "*", "s": 180, "color": colour, "edgecolor": "black", "linewidth": 0.8, "zorder": 3}
                axis.scatter([saved.step], [values[saved.step]], **spot)
    if saved:
        axis.axvline(saved.step, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    axis.set(xlabel="optimizer step", ylabel=ylabel)
    axis.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    else:
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=GREY)


def _mark_saved(figure: Figure, saved: Saved | None) -> None:
    if saved:
        figure.supxlabel(f"star and dotted line: {saved.label}", fontsize=9, color="0.3")


def _widen(axis, at_least: float, lowest: float, highest: float) -> None:
    """Limits that hold the curve with some space, and do not blow a difference of nothing up to the whole axis."""
    low, high = axis.get_ylim()
    missing = max(at_least - (high - low), 0) / 2
    high = min(high + missing, highest)
    low = max(min(low - missing, high - at_least), lowest)
    axis.set_ylim(low, max(high, low + at_least))


def _log_if_wide(axis) -> None:
    values = [value for line in axis.lines for value in line.get_ydata() if line.get_label()[0] != "_"]
    if values and min(values) > 0 and max(values) / min(values) > 20:
        axis.set_yscale("log")


def plot_confusion_matrix(
    matrix: Sequence[Sequence[int]], labels: Sequence[str], path: Path, title: str = "Confusion matrix"
) -> None:
    """
    Counts of true (rows) against predicted (columns) labels, and their shares of each row. With more than
    `MOST_NUMBERS` labels the colours alone show them, with more than `MOST_NAMES` not every label is named.
    """
    size = min(max(4.4, 2.2 + 0.55 * len(labels)), 14)
    figure = Figure(figsize=(size, size - 0.2), layout="constrained")
    axis = figure.subplots()
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    named = range(0, len(labels), -(-len(labels) // MOST_NAMES))
    names = [_short(str(labels[k])) for k in named]
    small = {"fontsize": 10 if len(labels) <= 10 else 8 if len(labels) <= 30 else 6}
    axis.set(xlabel="predicted label", ylabel="true label", xticks=named, yticks=named)
    upright = len(labels) <= 3 and all(len(name) <= 10 for name in names)
    turned = {} if upright else {"rotation": 45 if len(labels) <= 30 else 90, "rotation_mode": "anchor"}
    axis.set_xticklabels(
        names, **small, **turned, ha="center" if upright else "right", va="top" if upright else "center"
    )
    axis.set_yticklabels(names, **small)
    axis.set_title(title)
    if len(labels) > MOST_NUMBERS:
        figure.colorbar(image, label="share of the true label's texts", shrink=0.7)
    else:
        _write_counts(axis, counts, shares)
    save_figure(figure, path)


def _write_counts(axis, counts: np.ndarray, shares: np.ndarray) -> None:
    """The counts, and where there is room their shares; no zeros off the diagonal of many labels."""
    few, size = len(counts) <= 6, 10 if len(counts) <= 10 else 8
    for i, j in np.ndindex(*counts.shape):
        if few or i == j or counts[i, j]:
            text = f"{counts[i, j]:,}" + (f"\n({shares[i, j]:.1%})" if few else "")
            colour = "white" if shares[i, j] > 0.5 else "black"
            axis.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)


def _short(name: str, most: int = 24) -> str:
    name = name.replace("$", r"\$")
    return name if len(name) <= most else name[: most - 1] + "…"


def plot_precision_recall(
    labels: Sequence[int],
    scores: dict[str, Sequence[float]],
    path: Path,
    thresholds: Mapping[str, float] | None = None,
    title: str = "Precision and recall",
    positive: str = "spam",
) -> None:
    """
    The precision-recall curve of each model, by name, whose `scores` rise with the probability of label 1, which is
    called `positive`; a dot at each model's threshold.
    """
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axis = figure.subplots()
    _draw_precision_recall(
        axis, {name: (labels, values) for name, values in scores.items()}, thresholds or {}, positive
    )
    axis.set_title(title)
    save_figure(figure, path)


def plot_reliability(
    models: dict[str, tuple[Sequence[int], Sequence[float]]],
    path: Path,
    title: str = "Calibration",
    positive: str | None = "spam",
) -> None:
    """
    By model (labels, probabilities): the share of label 1, which is called `positive`, at each predicted probability,
    and how many rows. Without a `positive`, label 1 is an answer that is right, and the probability its own.
    """
    figure = Figure(figsize=(5.4, 5.8), layout="constrained")
    figure.suptitle(title)
    _draw_reliability(*figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)), models, positive)
    save_figure(figure, path)


def plot_classifiers(
    models: dict[str, tuple[Sequence[int], Sequence[float]]], path: Path, positive: str = "spam"
) -> None:
    """By model (labels, probabilities): reliability on the left, precision against recall on the right."""
    figure = Figure(figsize=(11, 5.8), layout="constrained")
    left, right = figure.subfigures(1, 2)
    left.suptitle("Calibration")
    right.suptitle("Precision and recall")
    _draw_reliability(*left.subplots(2, 1, sharex=True, height_ratios=(3, 1)), models, positive)
    _draw_precision_recall(right.subplots(), models, {}, positive)
    save_figure(figure, path)


def _draw_precision_recall(
    axis, models: dict[str, tuple[Sequence[int], Sequence[float]]], thresholds: Mapping[str, float], positive: str
) -> None:
    lowest = 1.0
    for (name, (labels, scores)), (colour, line) in zip(models.items(), STYLES):
        labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
        precision, recall, _ = precision_recall_curve(labels, scores)
        area = average_precision_score(labels, scores)
        label = f"{name}: average precision {area:.3f}"
        axis.plot(recall, precision, color=colour, linestyle=line, drawstyle="steps-post", label=label)
        lowest = min(lowest, *precision[(recall < 1) & (recall > 0)], precision[recall == 1].max(initial=0))
        if name in thresholds and (said := scores > thresholds[name]).any():
            axis.scatter(labels[said == 1].sum() / labels.sum(), labels[said].mean(), color=colour, s=45, zorder=3)
    bottom = max(np.floor(lowest * 10 - 0.5) / 10, 0)
    axis.set(xlabel=f"recall (share of {positive} caught)", ylabel=f"precision (share of flagged that is {positive})")
    axis.set(xlim=(0, 1.01), ylim=(bottom, 1 + (1 - bottom) / 50))
    axis.grid(alpha=0.3)
    heading = "dot: the model's own threshold" if thresholds else None
    axis.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize="small", frameon=False, title=heading,
        title_fontsize="small",
    )  # fmt: skip


def _draw_reliability(
    axis,
    counts_axis,
    models: dict[str, tuple[Sequence[int], Sequence[float]]],
    positive: str | None = "spam",
    bins: int = 10,
) -> None:
    from .metrics import bin_numbers

    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
    for (name, (labels, probabilities)), (colour, line) in zip(models.items(), STYLES):
        labels, probabilities = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
        bin_of = bin_numbers(probabilities, bins)
        rows = np.bincount(bin_of, minlength=bins)
        filled = rows > 0
        means = (
            np.bincount(bin_of, values, minlength=bins)[filled] / rows[filled] for values in (probabilities, labels)
        )
        axis.plot(*means, color=colour, linestyle=line, marker="o", markersize=4, label=name)
        edges = np.linspace(0, 1, bins + 1)
        counts_axis.stairs(rows, edges, color=colour, linestyle=line, linewidth=1.5, label=name)
    what = "predicted probability" + (f" of {positive}" if positive else "")
    rows_are = "messages" if positive == "spam" else "texts" if positive else "answers"
    axis.set(ylabel=f"share that is {positive or 'right'}, of each tenth", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    counts_axis.set(xlabel=what, ylabel=rows_are, yscale="log")
    counts_axis.set_ylim(bottom=0.7)
    counts_axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.grid(alpha=0.3)
    counts_axis.grid(alpha=0.3)
    columns = 3 if len(models) == 2 else 2
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, fontsize="small", frameon=False)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_whole(path, picture.getvalue())
