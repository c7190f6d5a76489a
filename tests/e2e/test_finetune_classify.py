"""`train classify` from its command line to the files it leaves, on small tables of tickets."""

import csv
import json
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.hub.check import check
from hf_gpt_scratch.training import classify
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import read_card

WORDS = {
    "billing": "invoice refund charged payment receipt card",
    "login": "password account locked code browser session",
    "delivery": "parcel courier address box arrived late",
    "weather": "rain sunny wind snow cloudy storm",
}
FILLERS = ["please", "help", "since", "monday", "our", "team", "again", "today", "thanks", "still"]
SETTINGS = {
    "train_tokenizer": 400,
    "n_embd": 32,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 16,
    "prefix_loss_weight": 0.5,
    "num_train_epochs": 12,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-2,
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "load_best_model_at_end": False,
}


def tickets(label: str, number: int) -> list[str]:
    """Different texts of the words of a label and some that say nothing."""
    rng = random.Random(label)
    words = WORDS[label].split()
    return [" ".join([*rng.sample(words, 3), *rng.sample(FILLERS, 3), *rng.sample(words, 2)]) for _ in range(number)]


def write_csv(path: Path, counts: dict[str, int]) -> Path:
    rows = [(text, label) for label, number in counts.items() for text in tickets(label, number)]
    random.Random(0).shuffle(rows)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("body", "team"), *rows])
    return path


def options(data_file: Path, output_dir: Path, **changes) -> list[str]:
    settings = {"data_file": data_file, "output_dir": output_dir, **SETTINGS, **changes}
    return [word for key, value in settings.items() if value is not None for word in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    counts = {"billing": 24, "login": 20, "delivery": 20, "weather": 8}
    return write_csv(tmp_path_factory.mktemp("table") / "tickets.csv", counts)


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    classify.main(
        options(table, folder, outside_labels="weather", long_texts="windows", n_positions=6, lowercase=True)
    )
    return folder


def test_the_folder_passes_every_check(trained):
    assert [finding.name for finding in check(trained) if finding.status == "failed"] == []


def test_it_learns_and_writes_everything(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["labels"] == ["billing", "delivery", "login"] and metrics["outside_labels"] == ["weather"]
    assert metrics["multi_label"] is False and metrics["protocol"] == "grouped" and metrics["split_seed"] == 123
    assert sum(metrics["sizes"].values()) == 64 and sum(metrics["outside_texts"].values()) == 8
    assert metrics["data"]["text_column"] == "body" and metrics["data"]["label_column"] == "team"
    assert metrics["macro_f1"] > 0.8 and metrics["baseline"]["macro_f1"] > 0.8  # by chance 0.33
    for result in (metrics, metrics["baseline"], metrics["validation"], *metrics["per_class"].values()):
        for key, (low, high) in result["intervals"].items():
            assert low <= result[key] <= high
    assert set(metrics["mcnemar"]) == {"only_ours_right", "only_theirs_right", "p_value"}
    assert (
        metrics["command"].removeprefix("OMP_NUM_THREADS=1 ").startswith("hf-gpt-scratch train classify --data_file")
    )
    card = read_card(trained / "results" / "classify.json")
    assert card.metrics["macro_f1"].value == metrics["macro_f1"] and "macro_f1_above_baseline" in card.metrics
    assert list(card.baselines) == ["TF-IDF + LinearSVC"] and "test texts of 3 labels" in card.protocol
    for name in ("training", "confusion_matrix"):
        with Image.open(trained / "plots" / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(maxcolors=10**6)) > 10


def test_the_folder_loads_and_says_what_predictions_csv_says(trained):
    model = AutoModelForSequenceClassification.from_pretrained(trained)
    assert model.config.id2label == {0: "billing", 1: "delivery", 2: "login"}
    assert model.config.problem_type == "single_label_classification" and model.config.long_texts == "windows"
    table = pd.read_csv(trained / "predictions.csv")
    probabilities = table[[f"probability: {name}" for name in model.config.label2id]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    predictions = list(TextClassifier.from_pretrained(trained).classify(table["text"]))
    assert [prediction.label for prediction in predictions] == list(table["predicted"])
    np.testing.assert_allclose([prediction.probabilities for prediction in predictions], probabilities, atol=1e-4)
    metrics = json.loads((trained / "metrics.json").read_text())
    assert (table["predicted"] == table["label"]).mean() == pytest.approx(metrics["accuracy"])
    assert "weather" not in set(table["label"])  # outside texts are not part of these numbers


def test_long_texts_are_counted_in_every_part(trained):
    """All texts have 8 words or more, and the model reads 6 tokens at a time."""
    metrics = json.loads((trained / "metrics.json").read_text())
    long_texts = metrics["long_texts"]
    assert long_texts["read"] == "windows" and long_texts["tokens"] == 6
    assert 0 < long_texts["texts"]["train"] <= metrics["sizes"]["train"] < long_texts["rows"]["train"]


def test_what_is_said(table, tmp_path, capsys):
    classify.main(options(table, tmp_path, max_steps=2, class_weights="balanced", outside_labels="weather"))
    said = capsys.readouterr().out
    before, after = said.split(" step ", 1)
    assert "3 labels: billing (24), delivery (20), login (20).\n" in before
    assert re.search(
        r"Texts: \d+ for train, \d+ for validation, \d+ for test \(split seed 123; .* in train: none\)", before
    )
    assert "Texts of outside labels: 4 in validation and 4 in test; they are not learned" in before
    assert "Weights in the loss, the rarest labels first: " in before
    assert re.search(r"test texts +macro F1 +precision +recall +MCC +accuracy\nGPT .*\nTF-IDF \+ LinearSVC ", after)
    assert "Macro F1 of the GPT less the linear model's: " in after and "McNemar's test: p = " in after
    assert re.search(r"label +F1 +95 % interval +precision +recall +texts\nbilling ", after)
    assert f"Next: hf-gpt-scratch classify {tmp_path} --stream '" in after
    assert json.loads((tmp_path / "metrics.json").read_text())["class_weights"].keys() == {
        "billing",
        "delivery",
        "login",
    }
    assert json.loads((tmp_path / "config.json").read_text())["class_weights"] is None


def test_training_goes_on_from_a_classifier(trained, tmp_path, capsys):
    changes = {"model_name_or_path": trained, "train_tokenizer": None, "max_steps": 1, "learning_rate": 0}
    table = write_csv(tmp_path / "same.csv", {"billing": 12, "login": 12, "delivery": 12})
    classify.main(options(table, tmp_path / "same", **changes))
    assert f"The head of {trained} is kept: it has the same 3 labels." in capsys.readouterr().out
    old, same = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "same"))
    assert all(torch.equal(old[name], same[name]) for name in old)
    table = write_csv(tmp_path / "other.csv", {"billing": 12, "login": 12, "weather": 12})
    classify.main(options(table, tmp_path / "other", **changes))
    assert f"The head is new: {trained} has other labels (billing, delivery, login)." in capsys.readouterr().out
    other = load_file(tmp_path / "other" / "model.safetensors")
    assert not torch.equal(old["score.weight"], other["score.weight"])
    assert all(torch.equal(old[name], other[name]) for name in old if name != "score.weight")


def test_a_split_of_the_data_is_kept_and_what_it_lacks_is_said(tmp_path, capsys):
    rows = [(text, label, "train") for label in ("billing", "login", "delivery") for text in tickets(label, 6)]
    rows += [(f"{text} soon", label, part) for text, label, _ in rows[:12] for part in ("validation", "test")]
    rows += [(rows[0][0].upper(), "billing", "test"), (rows[-1][0] + " now", "delivery", "validation")]
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label", "split"), *rows])
    metrics = classify.main(options(tmp_path / "tickets.csv", tmp_path / "run", max_steps=1))
    said = capsys.readouterr().out
    assert metrics["protocol"] == "given" and metrics["sizes"] == {"train": 18, "validation": 13, "test": 13}
    assert "test texts with a near-copy in train: 1)" in said and metrics["test_rows_with_a_near_copy_in_train"] == 1
    assert "note: no text in test has the label delivery, so it is not measured there." in said
    assert metrics["per_class"]["delivery"]["support"] == 0


@pytest.fixture(scope="module")
def multi_label(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("multi")
    rng, rows = random.Random(0), []
    texts = {label: tickets(label, 60) for label in ("billing", "login", "delivery")}
    for number in range(60):
        labels = rng.sample(sorted(texts), rng.choice([1, 1, 2]))
        rows.append({"text": " ".join(texts[label][number] for label in labels), "labels": labels})
    (folder / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    classify.main(options(folder / "tickets.jsonl", folder / "run", multi_label=True, n_positions=40))
    return folder / "run"


def test_several_labels_a_text(multi_label):
    metrics = json.loads((multi_label / "metrics.json").read_text())
    assert metrics["multi_label"] and metrics["labels"] == ["billing", "delivery", "login"]
    assert metrics["micro_f1"] > 0.8 and metrics["baseline"]["micro_f1"] > 0.8  # all labels for each: 0.6
    assert "confusion_matrix" not in metrics and (multi_label / "plots" / "training.png").is_file()
    tokenizer = AutoTokenizer.from_pretrained(multi_label)
    model = AutoModelForSequenceClassification.from_pretrained(multi_label)
    assert model.config.problem_type == "multi_label_classification"
    table = pd.read_csv(multi_label / "predictions.csv")
    with torch.no_grad():
        logits = model(**tokenizer(list(table["text"]), return_tensors="pt", padding=True)).logits
    columns = [f"probability: {name}" for name in metrics["labels"]]
    torch.testing.assert_close(logits.sigmoid().double(), torch.tensor(table[columns].to_numpy()), atol=1e-4, rtol=0)
    predictions = TextClassifier.from_pretrained(multi_label).classify(table["text"])
    assert [", ".join(one.labels) for one in predictions] == list(table["predicted"].fillna(""))


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"text_column": "subject"}, InputError, "subject"),
        ({"multi_label": True, "class_weights": "balanced"}, UsageError, "--class_weights is for one label a text"),
        ({"outside_labels": "snow"}, InputError, "no text has the label 'snow'"),
        ({"data_file": None}, UsageError, "Give --data_file or --dataset_name"),
        ({"trainable_layers": "some"}, UsageError, "trainable_layers must be"),
        ({"train_tokenizer": None}, UsageError, "Give --model_name_or_path"),
    ],
)
def test_wrong_settings_end_in_one_sentence_and_write_nothing(changes, error, reason, table, tmp_path):
    with pytest.raises(error) as raised:
        classify.main(options(**{"data_file": table, "output_dir": tmp_path, **changes}))
    assert reason in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
