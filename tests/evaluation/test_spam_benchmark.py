"""The spam benchmark: its numbers against scikit-learn's, its intervals against simulation, and the whole command."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as reference

from hf_gpt_scratch.errors import InputError, UsageError
from hf_gpt_scratch.evaluation import spam_benchmark
from hf_gpt_scratch.evaluation.baseline import CLASSIFIERS
from hf_gpt_scratch.evaluation.card import Metric, read_card
from hf_gpt_scratch.evaluation.metrics import expected_calibration_error
from hf_gpt_scratch.evaluation.spam_benchmark import OURS, Judged, Outcome


class Run:
    def __init__(self, split_seed: int):
        self.split_seed = split_seed


def judged(seed: int, n: int = 400, errors: tuple[float, float] = (0.05, 0.05)) -> Judged:
    """A run whose two models are wrong on their own shares of the messages."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.2).astype(int)
    outcomes = {}
    for name, share in zip((OURS, "linear"), errors):
        is_spam = np.where(rng.random(n) < share, 1 - labels, labels).astype(bool)
        outcomes[name] = Outcome(is_spam, np.clip(np.where(is_spam, 0.9, 0.1) + rng.normal(0, 0.05, n), 0, 1))
    return Judged(Run(seed), labels, seed * n + np.arange(n), outcomes)


def test_numbers_are_those_of_scikit_learn_and_means_over_the_runs():
    runs = [judged(0), judged(1), judged(2)]
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
    numbers, _ = spam_benchmark.compare([judged(seed) for seed in range(8)], resamples=400)
    truth = [
        np.mean([reference.f1_score(one.labels, one.outcomes[OURS].is_spam) for one in map(judged, range(i, i + 8))])
        for i in range(8, 1608, 8)
    ]
    low, high = numbers[OURS]["f1"].interval
    expected = np.subtract(*np.quantile(truth, [0.975, 0.025]))
    assert high - low == pytest.approx(expected, rel=0.25)


def test_a_difference_is_found_where_there_is_one_and_not_where_there_is_none():
    best = {"linear": None}
    _, apart = spam_benchmark.compare([judged(seed, errors=(0.02, 0.1)) for seed in range(4)], resamples=200)
    _, alike = spam_benchmark.compare([judged(seed) for seed in range(10, 14)], resamples=200)
    _, worse = spam_benchmark.compare([judged(seed, errors=(0.1, 0.02)) for seed in range(4)], resamples=200)
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
    found = spam_benchmark.mcnemar(Judged(Run(3), labels, labels, outcomes), "linear")
    assert found == {"split_seed": 3, "only_ours_right": 7, "only_theirs_right": 1, "p_value": pytest.approx(18 / 256)}
    outcomes["linear"] = outcomes[OURS]
    assert spam_benchmark.mcnemar(Judged(Run(3), labels, labels, outcomes), "linear")["p_value"] == 1


@pytest.fixture(scope="module")
def measured(spam_runs, spam_messages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    argv = [str(spam_runs["1"]), str(spam_runs["2"]), "--book", str(spam_runs["book"])]
    return spam_benchmark.main([*argv, "--data_file", str(spam_messages), "--output_dir", str(folder)]), folder


def test_the_command_measures_the_saved_models_and_the_linear_ones(measured, spam_runs):
    result, folder = measured
    assert result["numbers"].keys() == {OURS, *CLASSIFIERS}
    runs = [json.loads((spam_runs[name] / "metrics.json").read_text()) for name in ("1", "2")]
    assert result["numbers"][OURS]["f1"]["value"] == pytest.approx(np.mean([run["f1"] for run in runs]))
    linear = result["numbers"]["TF-IDF + LinearSVC"]["f1"]["value"]
    assert linear == pytest.approx(np.mean([run["baseline"]["f1"] for run in runs]))
    book = json.loads((spam_runs["book"] / "metrics.json").read_text())
    assert result["book"][OURS]["accuracy"] == book["accuracy"]
    for row in result["numbers"].values():
        for name, metric in row.items():
            low, high = metric["interval"]
            assert 0 <= low <= high <= 1 and (name == "ece" or low <= metric["value"] <= high)


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
    assert isinstance(card.metrics["f1_above_best_linear"], Metric) and not card.metrics["ece"].higher_is_better
    with Image.open(folder / "benchmark.png") as picture:
        assert picture.width > 1000


def test_runs_that_cannot_be_compared_are_refused(spam_runs, spam_messages, tmp_path):
    data = ["--data_file", str(spam_messages), "--output_dir", str(tmp_path / "out")]
    one, two, book = (str(spam_runs[name]) for name in ("1", "2", "book"))
    with pytest.raises(UsageError, match="at least two runs"):
        spam_benchmark.main([one, *data])
    with pytest.raises(InputError, match="have the same split"):
        spam_benchmark.main([one, one, *data])
    with pytest.raises(InputError, match="by the book protocol, not the grouped one"):
        spam_benchmark.main([one, book, *data])
    with pytest.raises(InputError, match="by the grouped protocol, not the book one"):
        spam_benchmark.main([one, two, "--book", two, *data])
    assert not (tmp_path / "out").exists()
