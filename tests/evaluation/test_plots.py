import errno
import os

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import precision_recall_curve

from hf_gpt_scratch.evaluation.plots import (
    Saved,
    plot_classifiers,
    plot_confusion_matrix,
    plot_language_model,
    plot_precision_recall,
    plot_reliability,
    plot_training,
    save_figure,
)


def history(last_loss: float) -> list[dict]:
    return [
        {"step": 1, "loss": 2.0, "learning_rate": 1e-3},
        {"step": 2, "loss": last_loss},
        {"step": 2, "eval_loss": 1.5, "eval_accuracy": 0.5},
        {"step": 4, "eval_loss": 1.0, "eval_accuracy": 0.75},
        {"step": 4, "train_runtime": 1.0},
    ]


def history_with_tokens(tokens_per_step: int) -> list[dict]:
    return [{**entry, "num_input_tokens_seen": tokens_per_step * entry["step"]} for entry in history(1.0)]


PLOTS = {
    "training": (plot_training, (history(1.0),), (history(1.9),)),
    "language model": (plot_language_model, (history_with_tokens(10),), (history_with_tokens(20),)),
    "confusion matrix": (plot_confusion_matrix, ([[90, 10], [2, 8]], "ab"), ([[9, 91], [2, 8]], "ab")),
    "precision and recall": (
        plot_precision_recall,
        ([0, 0, 1, 1], {"one": [0.1, 0.4, 0.3, 0.8], "other": [0.1, 0.2, 0.6, 0.7]}),
        ([0, 0, 1, 1], {"one": [0.1, 0.4, 0.3, 0.8], "other": [0.8, 0.2, 0.6, 0.7]}),
    ),
}


@pytest.mark.parametrize("plot, data, other_data", PLOTS.values(), ids=PLOTS)
def test_picture_shows_its_data(tmp_path, plot, data, other_data):
    pictures = []
    for name, values in (("one", data), ("other", other_data)):
        plot(*values, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            pictures.append(np.asarray(image.convert("RGB")))
    colours = np.unique(pictures[0].reshape(-1, 3), axis=0).astype(int)
    # Axes without a curve or a cell would be grey only: red, green and blue of every colour nearly the same.
    assert (colours.max(axis=1) - colours.min(axis=1) > 50).any()
    # The lower halves differ by the legend of the precision-recall curves alone.
    upper_halves = [picture[: len(picture) // 2] for picture in pictures]
    assert not np.array_equal(*upper_halves)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # matplotlib 3.10 of pyparsing 3.3; these are UserWarnings, too
@pytest.mark.filterwarnings("error::UserWarning")
def test_training_without_an_evaluation_is_drawn_without_a_warning(tmp_path):
    plot_training([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], tmp_path / "training.png")
    assert (tmp_path / "training.png").is_file()


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kw: (figures.append(figure), save(figure, *args, **kw))
    )
    return figures


def texts(figure) -> str:
    """All that a picture says."""
    found = [*figure.texts, figure._supxlabel, figure._suptitle]
    for axis in figure.axes:
        found += [axis.title, axis.xaxis.label, axis.yaxis.label]
        found += axis.get_legend().get_texts() if axis.get_legend() else []
    return "\n".join(text.get_text() for text in found if text)


EVERY = {
    "training": lambda path: plot_training(history(1.0), path, saved=Saved(4, "accuracy", 2.0)),
    "language model": lambda path: plot_language_model(history_with_tokens(10), path, Saved(4)),
    "confusion matrix": lambda path: plot_confusion_matrix([[90, 10], [2, 8]], "ab", path),
    "precision and recall": lambda path: plot_precision_recall([0, 0, 1], {"one": [0.1, 0.2, 0.6]}, path),
    "reliability": lambda path: plot_reliability({"one": ([0, 1], [0.2, 0.9])}, path),
    "classifiers": lambda path: plot_classifiers({"one": ([0, 1], [0.2, 0.9])}, path),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_axis_has_its_words_and_no_legend_lies_over_the_curves(name, tmp_path, drawn):
    EVERY[name](tmp_path / "x.png")
    [figure] = drawn
    titled = [axis for axis in figure.axes if axis.get_title()]
    assert titled or figure._suptitle or all(part._suptitle for part in figure.subfigs), name
    for axis in figure.axes:
        below = [other for other in figure.axes if axis in other.get_shared_x_axes().get_siblings(other)]
        assert axis.get_ylabel() and any(one.get_xlabel() for one in below), name
        if legend := axis.get_legend():
            box, inside = legend.get_window_extent(), axis.get_window_extent()
            assert box.y1 <= inside.y0 or box.y0 >= inside.y1, name


def test_the_saved_model_is_marked_on_the_metric_that_chose_it(tmp_path, drawn):
    plot_training(history(1.0), tmp_path / "x.png", saved=Saved(4, "accuracy", 2.0))
    plot_training(history(1.0), tmp_path / "y.png", saved=Saved(2, "loss"))
    plot_training(history(1.0), tmp_path / "z.png")
    by_accuracy, by_loss, unmarked = drawn
    assert "the saved model (step 4, epoch 2), chosen by validation accuracy" in texts(by_accuracy)
    assert "validation accuracy (0.75)" in texts(by_accuracy) and "validation loss (1)" in texts(by_accuracy)
    stars = [[list(spot.get_offsets()[0]) for spot in axis.collections] for axis in by_accuracy.axes]
    assert stars == [[], [[4, 0.75]]]
    stars = [[list(spot.get_offsets()[0]) for spot in axis.collections] for axis in by_loss.axes]
    assert stars == [[[2, 1.5]], []] and "saved" not in texts(unmarked)


def test_a_curve_of_one_point_can_be_seen_and_no_share_is_negative(tmp_path, drawn):
    plot_training([{"step": 1, "loss": 2.0}, {"step": 1, "eval_loss": 1.0, "eval_f1": 0.0}], tmp_path / "x.png", "f1")
    assert all(line.get_marker() == "o" for axis in drawn[0].axes for line in axis.lines)
    low, high = drawn[0].axes[1].get_ylim()
    assert -0.05 < low < 0 and high - low >= 0.1


def test_the_thresholds_are_dots_at_the_precision_and_recall_of_the_tables(tmp_path, drawn):
    scores = {"one": [0.1, 0.6, 0.7, 0.8]}
    plot_precision_recall([0, 0, 1, 1], scores, tmp_path / "x.png", thresholds={"one": 0.5})
    [axis] = drawn[0].axes
    assert [list(dot.get_offsets()[0]) for dot in axis.collections] == [[1.0, pytest.approx(2 / 3)]]


LABELS = [0, 0, 1, 0, 1, 1]
MODELS = {
    "one": (LABELS, [0.02, 0.04, 0.06, 0.62, 0.64, 1.0]),
    "other": (LABELS, [0.45, 0.41, 0.43, 0.11, 0.95, 0.95]),
}
# Of each model's tenths that hold a probability: the mean of these, the share of class 1, how many there are.
RELIABILITY = {
    "one": ([0.04, 0.63, 1.0], [1 / 3, 1 / 2, 1.0], {0: 3, 6: 2, 9: 1}),
    "other": ([0.11, 0.43, 0.95], [0.0, 1 / 3, 1.0], {1: 1, 4: 3, 9: 2}),
}


def check_reliability(axis, counts_axis) -> None:
    diagonal, *curves = axis.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert [line.get_label() for line in curves] == list(MODELS)
    for line, stairs, (means, shares, counts) in zip(curves, counts_axis.patches, RELIABILITY.values(), strict=True):
        assert line.get_xdata() == pytest.approx(means) and line.get_ydata() == pytest.approx(shares)
        assert list(stairs.get_data().values) == [counts.get(tenth, 0) for tenth in range(10)]


def check_precision_recall(axis) -> None:
    for line, (name, (labels, scores)) in zip(axis.lines, MODELS.items(), strict=True):
        precision, recall, _ = precision_recall_curve(labels, scores)
        assert list(line.get_xdata()) == list(recall) and list(line.get_ydata()) == list(precision)
        assert line.get_label().startswith(f"{name}: average precision 0.")


def test_reliability_is_that_of_each_tenth(tmp_path, drawn):
    plot_reliability(MODELS, tmp_path / "x.png")
    check_reliability(*drawn[0].axes)


def test_classifiers_are_drawn_with_their_reliability_and_their_curves(tmp_path, drawn):
    plot_classifiers(MODELS, tmp_path / "x.png")
    *reliability, precision_recall = drawn[0].axes
    check_reliability(*reliability)
    check_precision_recall(precision_recall)


def test_precision_and_recall_are_those_of_scikit_learn(tmp_path, drawn):
    plot_precision_recall(LABELS, {name: scores for name, (_, scores) in MODELS.items()}, tmp_path / "x.png")
    check_precision_recall(*drawn[0].axes)


def test_a_picture_that_cannot_be_written_leaves_the_former(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    save_figure(Figure(), tmp_path / "x.png")
    former = (tmp_path / "x.png").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_figure(Figure(), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == former and len(list(tmp_path.iterdir())) == 1
