"""The spam benchmark: its numbers against scikit-learn's, its intervals against simulation, and the whole command."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as reference

from hf_gpt_scratch.commands.benchmark import table
from hf_gpt_scratch.data.sms_spam import load_messages, normalize
from hf_gpt_scratch.evaluation.metrics import expected_calibration_error
from hf_gpt_scratch.evaluation.text_classification import benchmark as spam_benchmark
from hf_gpt_scratch.evaluation.text_classification.baselines import CLASSIFIERS
from hf_gpt_scratch.evaluation.text_classification.benchmark import OURS, Evaluated, Outcome
from hf_gpt_scratch.evaluation.text_classification.runs import open_run
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import read_card
from support.commands import run_command


class Run:
    is_spam, protocol, unit = True, "grouped", "messages"

    def __init__(self, split_seed: int):
        self.folder, self.split_seed = "run", split_seed


def evaluated(seed: int, n: int = 400, errors=(0.05, 0.05), names=(OURS, "linear")) -> Evaluated:
    """A run whose models are wrong on their own shares of the messages."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.2).astype(int)
    outcomes = {}
    for name, share in zip(names, errors):
        is_spam = np.where(rng.random(n) < share, 1 - labels, labels).astype(bool)
        outcomes[name] = Outcome(is_spam, np.clip(np.where(is_spam, 0.9, 0.1) + rng.normal(0, 0.05, n), 0, 1))
    return Evaluated(Run(seed), labels, seed * n + np.arange(n), outcomes)


def test_numbers_are_those_of_scikit_learn_and_means_over_the_runs():
    runs = [evaluated(0), evaluated(1), evaluated(2)]
    numbers, differences = spam_benchmark.compare(runs, resamples=20)
    scores = {
        "f1": lambda one, outcome: reference.f1_score(one.labels, outcome.is_spam),
        "precision": lambda one, outcome: reference.precision_score(one.labels, outcome.is_spam),
        "recall": lambda one, outcome: reference.recall_score(one.labels, outcome.is_spam),
        "mcc": lambda one, outcome: reference.matthews_corrcoef(one.labels, outcome.is_spam),
        "pr_auc": lambda one, outcome: reference.average_precision_score(one.labels, outcome.probability),
    }
    for model in (OURS, "linear"):
        for name, score in scores.items():
            expected = np.mean([score(one, one.outcomes[model]) for one in runs])
            assert numbers[model][name].value == pytest.approx(expected)
    for name in spam_benchmark.METRICS:
        difference = numbers[OURS][name].value - numbers["linear"][name].value
        assert differences["linear"][name].value == pytest.approx(difference)


def test_calibration_error_by_hand():
    labels, probabilities = [1, 0, 1, 1], [0.95, 0.91, 0.25, 0.25]
    by_hand = (2 * abs(0.93 - 0.5) + 2 * abs(0.25 - 1)) / 4
    assert expected_calibration_error(labels, probabilities) == pytest.approx(by_hand)
    weighted = (3 * abs((2 * 0.95 + 0.91) / 3 - 2 / 3) + 2 * abs(0.25 - 1)) / 5
    assert expected_calibration_error(labels, probabilities, [2, 1, 1, 1]) == pytest.approx(weighted)
    assert expected_calibration_error([1], [1.0]) == 0


def test_intervals_have_the_width_of_what_chance_does():
    numbers, _ = spam_benchmark.compare([evaluated(seed) for seed in range(8)], resamples=400)
    truth = [
        np.mean(
            [reference.f1_score(one.labels, one.outcomes[OURS].is_spam) for one in map(evaluated, range(i, i + 8))]
        )
        for i in range(8, 1608, 8)
    ]
    low, high = numbers[OURS]["f1"].interval
    expected = np.subtract(*np.quantile(truth, [0.975, 0.025]))
    assert high - low == pytest.approx(expected, rel=0.25)


def test_near_copies_are_no_more_evidence_than_one_message():
    def twice(one: Evaluated) -> Evaluated:
        outcomes = {
            name: Outcome(np.tile(said.is_spam, 2), np.tile(said.probability, 2))
            for name, said in one.outcomes.items()
        }
        return Evaluated(one.run, np.tile(one.labels, 2), np.tile(one.groups, 2), outcomes)

    runs = [evaluated(seed, n=100) for seed in range(2)]
    once, doubled = (spam_benchmark.compare(some, resamples=50)[0] for some in (runs, [*map(twice, runs)]))
    for model, row in once.items():
        for name, metric in row.items():
            assert doubled[model][name].interval == pytest.approx(metric.interval), (model, name)


def test_every_interval_holds_its_value_and_none_is_given_where_nothing_varies():
    runs = [evaluated(seed, n=100, errors=(0.2, 0.3)) for seed in range(8)]
    for one in runs:  # calibrated models, whose calibration error is all of chance and more so in every resample
        draws = np.random.default_rng(one.run.split_seed)
        for name in one.outcomes:
            one.outcomes[name] = Outcome(one.outcomes[name].is_spam, draws.choice([0.1, 0.3, 0.5, 0.7, 0.9], 100))
        one.labels[:] = draws.random(100) < one.outcomes[OURS].probability
    numbers, differences = spam_benchmark.compare(runs, resamples=100)
    for row in (*numbers.values(), *differences.values()):
        for name, metric in row.items():
            assert name == "ece_by_chance" or metric.interval[0] <= metric.value <= metric.interval[1], name
    assert numbers[OURS]["ece"].interval[0] == numbers[OURS]["ece"].value
    assert numbers[OURS]["ece_by_chance"].value == pytest.approx(numbers[OURS]["ece"].value, abs=0.015)
    numbers, differences = spam_benchmark.compare([evaluated(seed, errors=(0, 0)) for seed in range(2)], resamples=20)
    assert numbers[OURS]["f1"].value == 1 and numbers[OURS]["f1"].interval is None
    assert "cannot be told apart" in spam_benchmark.conclusion(differences, "linear")
    assert "1.0000" in table(numbers)


def test_a_difference_is_found_where_there_is_one_and_not_where_there_is_none():
    best = {"linear": None}
    _, apart = spam_benchmark.compare([evaluated(seed, errors=(0.02, 0.1)) for seed in range(4)], resamples=200)
    _, alike = spam_benchmark.compare([evaluated(seed) for seed in range(10, 14)], resamples=200)
    _, worse = spam_benchmark.compare([evaluated(seed, errors=(0.1, 0.02)) for seed in range(4)], resamples=200)
    said = [spam_benchmark.conclusion(differences, *best) for differences in (apart, alike, worse)]
    assert [words.split(" the best")[0] for words in said] == [
        "The GPT is better than",
        "The GPT cannot be told apart from",
        "The GPT is worse than",
    ]
    assert f"{100 * apart['linear']['f1'].value:+.2f} points of F1 from linear's" in said[0]


def test_mcnemar():
    labels = np.array([1] * 10)
    ours, theirs = np.array([True] * 9 + [False]), np.array([True] * 2 + [False] * 7 + [True])
    outcomes = {OURS: Outcome(ours, ours * 1.0), "linear": Outcome(theirs, theirs * 1.0)}
    found = spam_benchmark.mcnemar(Evaluated(Run(3), labels, labels, outcomes), "linear")
    assert found == {"split_seed": 3, "only_ours_right": 7, "only_theirs_right": 1, "p_value": pytest.approx(18 / 256)}
    outcomes["linear"] = outcomes[OURS]
    assert spam_benchmark.mcnemar(Evaluated(Run(3), labels, labels, outcomes), "linear")["p_value"] == 1


@pytest.mark.parametrize("errors, best", [((0.05, 0.1, 0.2), 0), ((0.2, 0.15, 0.05), 1)])
def test_the_best_linear_model_is_that_with_the_highest_f1(errors, best):
    runs = [evaluated(seed, errors=errors, names=(OURS, *CLASSIFIERS)) for seed in range(2)]
    numbers, differences = spam_benchmark.compare(runs, resamples=20)
    names = list(CLASSIFIERS)
    assert spam_benchmark.best_linear(numbers) == names[best]
    card = spam_benchmark.make_card(runs, numbers, differences, data=[], command="", environment={})
    difference = card.metrics["f1_above_best_linear"]
    assert difference.value == pytest.approx(card.metrics["f1"].value - card.baselines[names[best]]["f1"].value)
    assert difference.interval == differences[names[best]]["f1"].interval
    assert spam_benchmark.summarize(runs, numbers, differences)["best_linear_model"] == names[best]


@pytest.fixture(scope="module")
def measured(spam_runs, spam_messages, tmp_path_factory):
    """What benchmark.json holds, and its folder; one of the runs was calibrated, which must change nothing."""
    folder = tmp_path_factory.mktemp("benchmark")
    calibrated = shutil.copytree(spam_runs["2"], tmp_path_factory.mktemp("runs") / "2")
    config = json.loads((calibrated / "config.json").read_text())
    config["calibration"] = {"temperature": 9.0, "shift": -1.0, "threshold": 0.999}
    (calibrated / "config.json").write_text(json.dumps(config))
    argv = [str(spam_runs["1"]), str(calibrated), "--book", str(spam_runs["book"])]
    run_command("benchmark", *argv, "--data_file", spam_messages, "--output_dir", folder)
    return json.loads((folder / "benchmark.json").read_text()), folder


def test_the_command_measures_the_saved_models_and_the_linear_ones(measured, spam_runs):
    result, folder = measured
    assert result["numbers"].keys() == {OURS, *CLASSIFIERS}
    runs = [json.loads((spam_runs[name] / "metrics.json").read_text()) for name in ("1", "2")]
    assert result["numbers"][OURS]["f1"]["value"] == pytest.approx(np.mean([run["f1"] for run in runs]))
    linear = result["numbers"]["TF-IDF + LinearSVC"]["f1"]["value"]
    assert linear == pytest.approx(np.mean([run["baseline"]["f1"] for run in runs]))
    book = json.loads((spam_runs["book"] / "metrics.json").read_text())
    assert result["book"][OURS]["accuracy"]["value"] == pytest.approx(book["accuracy"])
    assert result["numbers"]["TF-IDF + LinearSVC"]["ece"]["value"] < 0.2  # of probabilities, as its scores are made
    for row in (*result["numbers"].values(), *result["book"].values()):
        for name, metric in row.items():
            low, high = metric["interval"] or [metric["value"]] * 2
            assert 0 <= low <= metric["value"] <= high <= 1, name


def test_the_command_leaves_its_files(measured):
    result, folder = measured
    written = json.loads((folder / "benchmark.json").read_text())
    assert written["conclusion"] == result["conclusion"] and len(written["mcnemar"]) == 2
    table = pd.read_csv(folder / "predictions.csv")
    first = table[table.split_seed == 1]
    f1 = [reference.f1_score(rows.label, rows[f"{OURS}: spam"]) for _, rows in table.groupby("split_seed")]
    assert np.mean(f1) == pytest.approx(result["numbers"][OURS]["f1"]["value"]) and len(first) == 96
    card = read_card(folder / "results" / "spam_benchmark.json")
    assert card.seeds == [1, 2] and card.predictions == "predictions.csv" and set(card.baselines) == set(CLASSIFIERS)
    assert not card.metrics["ece"].higher_is_better and "the GPT as trained: no calibration" in card.protocol
    assert "of the seeds 1, 2, each of 96 test messages" in card.protocol
    book = read_card(folder / "results" / "spam_benchmark_book.json")
    assert book.protocol.startswith("the book's split") and "accuracy" in book.baselines["TF-IDF + LinearSVC"]
    with Image.open(folder / "benchmark.png") as picture:
        assert picture.width > 1000


@pytest.fixture(scope="module")
def run_of_1(spam_runs, spam_messages):
    return open_run(spam_runs["1"], load_messages(spam_messages))


def test_near_copies_have_the_same_number_in_all_runs(run_of_1, spam_messages):
    copies = ["You won prize 17!", "you won prize 23", "see you"]
    numbers = spam_benchmark.number_groups(copies)
    assert [numbers[normalize(text)] for text in copies] == [0, 0, 1]
    numbers = spam_benchmark.number_groups(load_messages(spam_messages).texts)
    found = spam_benchmark.evaluate(run_of_1, numbers).groups
    assert list(found) == [numbers[normalize(text)] for text in run_of_1.splits["test"]["text"]]


def test_no_model_learns_from_the_labels_it_is_tested_on(run_of_1, spam_messages):
    numbers = spam_benchmark.number_groups(load_messages(spam_messages).texts)
    test = run_of_1.splits["test"]
    opposite = test.map(lambda row: {"label": 1 - row["label"]})
    swapped = replace(run_of_1, splits={**run_of_1.splits, "test": opposite})
    one, other = (spam_benchmark.evaluate(run, numbers) for run in (run_of_1, swapped))
    assert list(one.labels) == [1 - label for label in other.labels]
    for name, outcome in one.outcomes.items():
        assert (outcome.probability == other.outcomes[name].probability).all()
        assert (outcome.is_spam == other.outcomes[name].is_spam).all()


def test_runs_that_cannot_be_compared_are_refused(spam_runs, spam_messages, tmp_path, monkeypatch):
    data = ["--data_file", str(spam_messages), "--output_dir", str(tmp_path / "out")]
    one, two, book = (str(spam_runs[name]) for name in ("1", "2", "book"))
    with pytest.raises(UsageError, match="at least two runs"):
        run_command("benchmark", one, *data)
    with pytest.raises(InputError, match="have the same split"):
        run_command("benchmark", one, one, *data)
    with pytest.raises(InputError, match="trained with --protocol book, not grouped"):
        run_command("benchmark", one, book, *data)
    with pytest.raises(InputError, match="trained with --protocol grouped, not book"):
        run_command("benchmark", one, two, "--book", two, *data)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    monkeypatch.setattr(spam_benchmark, "evaluate", None)  # so early that nothing was done
    with pytest.raises(InputError, match="file is a file; choose another --output_dir"):
        run_command("benchmark", one, two, *data[:2], "--output_dir", str(tmp_path / "file"))


def test_what_fails_half_way_leaves_none_of_its_files(spam_runs, spam_messages, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("hf_gpt_scratch.evaluation.plots.plot_classifiers", fail)
    argv = [str(spam_runs["1"]), str(spam_runs["2"]), "--data_file", str(spam_messages)]
    with pytest.raises(OSError, match="the disk is full"):
        run_command("benchmark", *argv, "--output_dir", str(tmp_path / "out"))
    assert not any(tmp_path.iterdir())


def test_loading_is_quiet(run_of_1, capfd):
    run_of_1.load_classifier()
    assert "Loading weights" not in capfd.readouterr().err
