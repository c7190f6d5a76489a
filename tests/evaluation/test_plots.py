import numpy as np
import pytest
from PIL import Image

from hf_gpt_scratch.evaluation.plots import (
    plot_confusion_matrix,
    plot_language_model,
    plot_precision_recall,
    plot_training,
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
