"""Runs of `train classify` on any labels, opened again, calibrated and compared with linear models."""

import csv
import json
import random
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.commands.calibrate import report
from hf_gpt_scratch.data.labelled_texts import load_labelled_texts
from hf_gpt_scratch.evaluation.text_classification import calibration
from hf_gpt_scratch.evaluation.text_classification.early import AGREEMENTS
from hf_gpt_scratch.evaluation.text_classification.runs import load_messages, open_run, word_logits
from hf_gpt_scratch.training import classify
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import Metric, read_card
from support.commands import run_command

WORDS = {
    "billing": "refund invoice charge card paid price receipt money",
    "delivery": "parcel courier late box address shipping driver tracking",
    "account": "password login email locked user profile reset code",
    "weather": "rain cloud sun wind snow storm cold warm",
}
OTHERS = ["please", "hello", "my", "the", "is", "again", "today", "help", "with", "about", "and", "thanks", "we"]
SETTINGS = {
    "train_tokenizer": 300,
    "n_embd": 32,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 64,
    "num_train_epochs": 4,
    "per_device_train_batch_size": 16,
    "learning_rate": 4e-3,
    "prefix_loss_weight": 0.3,
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "load_best_model_at_end": False,
}


def ticket(topics: list[str], rng: random.Random) -> str:
    """Words of its topics among others, and a few of another topic."""
    words = []
    for _ in range(rng.randint(5, 12)):
        topic = rng.choice(list(WORDS)) if rng.random() < 0.1 else rng.choice(topics)
        words.append(rng.choice(WORDS[topic].split()) if rng.random() < 0.5 else rng.choice(OTHERS))
    return " ".join(words)


def write(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "topic"), *rows])
    return path


def train(folder, data, *words, **changes):
    settings = {**SETTINGS, "data_file": data, "output_dir": folder, **changes}
    classify.main([*(word for key, value in settings.items() for word in (f"--{key}", str(value))), *words])
    return folder


@pytest.fixture(scope="module")
def tickets(tmp_path_factory):
    rng, topics = random.Random(0), [*WORDS, *list(WORDS)[:3]]
    rows = [(ticket([topics[i % 7]], rng), topics[i % 7]) for i in range(350)]
    return write(tmp_path_factory.mktemp("data") / "tickets.csv", rows)


@pytest.fixture(scope="module")
def runs(tickets, tmp_path_factory):
    """Two runs of other seeds, in which the weather is outside."""
    folder = tmp_path_factory.mktemp("runs")
    return [train(folder / f"{seed}", tickets, "--outside_labels", "weather", seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run of texts with one topic or two."""
    folder, rng = tmp_path_factory.mktemp("several"), random.Random(1)
    topics = [rng.sample(list(WORDS)[:3], rng.choice([1, 1, 2])) for _ in range(250)]
    data = write(folder / "several.csv", [(ticket(one, rng), ";".join(one)) for one in topics])
    return train(folder / "run", data, "--multi_label", seed=1)


@pytest.fixture
def run(runs, tickets, tmp_path):
    copy = shutil.copytree(runs[0], tmp_path / "runs" / "1")
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["data"]["file"] = str(tickets)
    (copy / "metrics.json").write_text(json.dumps(metrics))
    return copy


def config(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_the_split_is_the_one_that_was_trained_on(runs, tickets):
    opened = open_run(runs[0], load_messages(runs[0], None, None))
    assert opened.names == ("account", "billing", "delivery") and not opened.is_spam and not opened.is_binary
    predictions = pd.read_csv(runs[0] / "predictions.csv")
    test = opened.splits["test"]
    assert test["text"][:] == predictions["text"].tolist()
    assert [opened.names[label] for label in test["label"]] == predictions["label"].tolist()
    assert all(label >= 0 for rows in opened.splits.values() for label in rows["label"])
    weather = [text for text, label in zip(*read(tickets)) if label == "weather"]
    assert sorted([*opened.outside["validation"], *opened.outside["test"]]) == sorted(weather)


def read(path) -> tuple[list[str], list[str]]:
    table = pd.read_csv(path)
    return table["text"].tolist(), table["topic"].tolist()


def test_other_texts_or_labels_are_refused(run, tickets, tmp_path):
    texts, labels = read(tickets)
    fewer = write(tmp_path / "fewer.csv", list(zip(texts, labels))[:-7])
    with pytest.raises(InputError, match="trained on other texts than those of .*fewer.csv"):
        run_command("calibrate", run, "--data_file", fewer)
    with pytest.raises(InputError, match="trained on the labels account, billing, delivery, not those of the other"):
        open_run(run, load_labelled_texts(tickets))
    moved = json.loads((run / "metrics.json").read_text())
    moved["data"]["file"], moved["command"] = "../gone.csv", "train classify"
    (run / "metrics.json").write_text(json.dumps(moved))
    with pytest.raises(
        InputError, match="texts that .* was trained on are not at .*gone.csv any more; give --data_file"
    ):
        run_command("calibrate", run)
    with pytest.raises(UsageError, match="--prevalence is the share of one label of two"):
        run_command("calibrate", run, "--data_file", tickets, "--prevalence", "0.2")
    with pytest.raises(InputError, match=r"cannot be promised from \d+ validation texts.*Try `.* --refuse 0.2 --prec"):
        run_command("calibrate", run, "--data_file", tickets, "--precision", "0.9999", "--refuse", "0.2")
    assert "calibration" not in config(run)


def test_one_forward_pass_gives_the_logits_of_every_prefix(runs):
    classifier = TextClassifier.from_pretrained(runs[0])
    texts = ["my parcel is late again", "reset the password of my login please", "refund"]
    whole, words = word_logits(classifier, texts)
    assert np.allclose(whole, classifier.logits(texts).numpy(), atol=1e-5)
    for row, text in enumerate(texts):
        parts = text.split()
        prefixes = [" ".join(parts[: i + 1]) for i in range(len(parts))]
        assert words[row].shape == (len(parts), 3)
        assert np.allclose(words[row], classifier.logits(prefixes).numpy(), atol=1e-4)


def test_calibrate_keeps_what_classify_applies(run, tickets, capsys):
    run_command("calibrate", run)
    printed, kept = capsys.readouterr().out, config(run)["calibration"]
    assert kept.keys() == {"temperature", "outside_threshold", "outside_label", "early", "precision"}
    assert list(kept["early"]) == [f"{agreement:g}" for agreement in AGREEMENTS]
    classifier = TextClassifier.from_pretrained(run)
    opened = open_run(run, load_labelled_texts(tickets, outside_labels=["weather"]))
    card = read_card(run / "results" / "outside.json")
    outside, test = opened.outside["test"], opened.splits["test"]
    told = [prediction.is_outside for prediction in classifier.classify(outside)]
    assert card.metrics["outside_told"].value == np.mean(told) > 0
    inside = list(classifier.classify(test["text"], decide_at=0.9))
    assert card.metrics["inside_refused"].value == np.mean([one.is_outside for one in inside]) < 0.3
    assert f"Outside: {sum(told)} of {len(outside)} texts of other labels are told" in printed
    assert printed.count(f"note: Calibrated on only {len(opened.splits['validation'])} texts; ") == 1

    card = read_card(run / "results" / "early.json")
    first = kept["early"]["0.9"]
    assert first.keys() == {"threshold", "agreement", "error", "words_read"}
    early = [one.decided_label or one.label for one in inside]
    assert first["agreement"] == np.mean([one == other.label for one, other in zip(early, inside)])
    names = [opened.names[label] for label in test["label"]]
    assert first["error"] == pytest.approx(np.mean([one != name for one, name in zip(early, names)]))
    read = [one.decided_at or len(one.text.split()) for one in inside]
    assert first["words_read"] == pytest.approx(sum(read) / sum(len(one.text.split()) for one in inside))
    assert card.baselines["for 0.9"]["words_read"].value == first["words_read"]
    assert card.baselines["the whole text"]["words_read"].value == 1
    assert list(card.metrics) == ["agreement", "error", "words_read"]

    card = read_card(run / "results" / "calibration.json")
    measured = json.loads((run / "metrics.json").read_text())
    assert card.task == "text classification calibration" and list(card.metrics)[0] == "macro_f1"
    for name in ("macro_f1", "mcc", "accuracy"):
        assert card.baselines["as trained"][name].value == pytest.approx(measured[name])
        assert list(card.baselines["as trained"][name].interval) == pytest.approx(measured["intervals"][name])
    assert (run / "plots" / "calibration.png").stat().st_size > 5000
    run_command("calibrate", run)
    assert config(run)["calibration"] == kept
    run_command("report", run, "--output_dir", run / "report")
    text = (run / "report" / "report.md").read_text()
    for task in ("calibration", "early verdict", "outside answer"):
        assert f"## text classification {task}" in text


@pytest.mark.parametrize(
    "count, after, said",
    [
        (15, 0.0934, "Calibrated on only 15 texts; on the test set the log loss rose from 0.0535 to 0.0934"),
        (15, 0.05, "Calibrated on only 15 texts; with more"),
        (100, 0.0934, "worse: on the test set the log loss rose from 0.0535 to 0.0934."),
        (100, 0.05, None),
    ],
)
def test_a_calibration_on_few_texts_or_for_the_worse_is_said_to_be(run, tickets, count, after, said):
    opened = open_run(run, load_labelled_texts(tickets, outside_labels=["weather"]))
    numbers = {calibration.BEFORE: {"log_loss": Metric(0.0535)}, calibration.AFTER: {"log_loss": Metric(after)}}
    sentences = calibration.reservations(opened, count, numbers)
    assert len(sentences) == (said is not None) and (said or "") in "".join(sentences)


def test_a_promised_precision_refuses_what_is_not_sure_enough(run):
    run_command("calibrate", run, "--precision", "0.6", "--refuse", "1")
    kept = config(run)["calibration"]
    assert len(kept["threshold"]) == 3 and len(set(kept["threshold"])) == 1 and kept["outside_label"] == "outside"
    card = read_card(run / "results" / "calibration.json")
    assert "for a precision of at least 0.6" in card.protocol
    labels = [
        one.label for one in TextClassifier.from_pretrained(run).classify(["hello the is", "refund refund money"])
    ]
    assert set(labels) <= {"billing", "delivery", "account", "outside"}


def test_a_run_without_outside_texts_has_no_outside_answer(run, runs, tickets, monkeypatch):
    run_command("calibrate", run)
    opened = open_run(run, load_messages(run, None, None))
    for texts, notes in (({}, 0), ({"validation": [], "test": ["rain"]}, 1)):
        changed = type(opened)(**{**vars(opened), "outside": texts})
        monkeypatch.setattr(calibration, "open_run", lambda *_, changed=changed: changed)
        found = calibration.calibrate(run, "calibrate")
        assert found.outside is None and "Outside:" not in report(found)
        assert len([note for note in found.notes if "outside" in note]) == notes
        assert not (run / "results" / "outside.json").exists()
        assert "outside_threshold" not in config(run)["calibration"]
    assert "note: No outside answer is fitted: no validation text is of an outside label." in report(found)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_with_one_of_two_labels_is_refused(part, run):
    opened = open_run(run, load_messages(run, None, None))
    splits = {name: rows.filter(lambda row: row["label"] < 2) for name, rows in opened.splits.items()}
    splits[part] = splits[part].filter(lambda row: row["label"] == 0)
    two = type(opened)(**{**vars(opened), "splits": splits, "names": ("account", "billing")})
    with pytest.raises(InputError, match=f"No {part} text of .* has the label 'billing', so nothing can be measured"):
        two.require_both_labels()
    opened.require_both_labels()


def test_several_labels_a_text_are_calibrated_with_thresholds_of_their_own(several, capsys):
    run_command("calibrate", several)
    kept = config(several)["calibration"]
    assert len(kept["threshold"]) == 3 and "outside_threshold" not in kept and "shift" not in kept
    card = read_card(several / "results" / "calibration.json")
    opened = open_run(several, load_messages(several, None, None))
    predictions = TextClassifier.from_pretrained(several).classify(opened.splits["test"]["text"])
    said = np.array([[name in one.labels for name in opened.names] for one in predictions])
    assert card.metrics["macro_f1"].value == pytest.approx(f1_score(opened.labels("test"), said, average="macro"))
    assert "thresholds 0." in capsys.readouterr().out and (several / "results" / "early.json").exists()


def test_benchmark_of_other_labels(runs, tmp_path, capsys):
    run_command("benchmark", *runs, "--output_dir", tmp_path)
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "benchmark.json").read_text())
    measured = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert list(result["numbers"]["GPT"]) == ["macro_f1", "mcc", "accuracy", "ece", "ece_by_chance"]
    for name in ("macro_f1", "mcc", "accuracy"):
        assert result["numbers"]["GPT"][name]["value"] == pytest.approx(np.mean([one[name] for one in measured]))
    linear = result["numbers"]["TF-IDF + LinearSVC"]["macro_f1"]["value"]
    assert linear == pytest.approx(np.mean([one["baseline"]["macro_f1"] for one in measured]))
    assert result["runs"][0]["GPT"]["macro_f1"] == pytest.approx(measured[0]["macro_f1"])
    mcnemar = result["mcnemar"][0]
    if result["best_linear_model"] == "TF-IDF + LinearSVC":
        assert {name: mcnemar[name] for name in measured[0]["mcnemar"]} == measured[0]["mcnemar"]
    assert "points of macro F1 from" in result["conclusion"] and "texts only the GPT got right" in printed
    card = read_card(tmp_path / "results" / "benchmark.json")
    assert card.task == "text classification benchmark" and card.seeds == [1, 2]
    assert card.metrics["macro_f1_above_best_linear"].interval and (tmp_path / "benchmark.png").exists()
    table = pd.read_csv(tmp_path / "predictions.csv")
    scores = [f1_score(rows["label"], rows["GPT: label"], average="macro") for _, rows in table.groupby("split_seed")]
    assert np.mean(scores) == pytest.approx(result["numbers"]["GPT"]["macro_f1"]["value"])
    with pytest.raises(UsageError, match="--book is for runs of the SMS collection"):
        run_command("benchmark", *runs, "--book", runs[0], "--output_dir", tmp_path)
