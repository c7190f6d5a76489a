from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import precision_recall_curve

from hf_gpt_scratch.evaluation.plots import (
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


@pytest.mark.filterwarnings("error::UserWarning")
def test_training_without_an_evaluation_is_drawn_without_a_warning(tmp_path):
    plot_training([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], tmp_path / "training.png")
    assert (tmp_path / "training.png").is_file()


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


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kw: (figures.append(figure), save(figure, *args, **kw))
    )
    return figures


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
    write = Path.write_bytes

    def half(path, content):
        write(path, content[: len(content) // 2])
        raise OSError("the disk is full")

    save_figure(Figure(), tmp_path / "x.png")
    former = (tmp_path / "x.png").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError):
        save_figure(Figure(), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == former and len(list(tmp_path.iterdir())) == 1
