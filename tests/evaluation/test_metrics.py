import json
import socket

import numpy as np
import pytest
from sklearn import metrics as reference

from hf_gpt_scratch.evaluation.metrics import BinaryClassification, f1_difference, f1_score, matthews_correlation


def random_vectors(seed: int, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a fifth is 1, and predictions that are wrong for a quarter of them."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < 0.2).astype(int)
    return np.where(rng.random(size) < 0.25, 1 - labels, labels), labels


def compute(predictions, references) -> dict:
    return BinaryClassification().compute(predictions=predictions, references=references)


CASES = {
    **{f"random {seed}": random_vectors(seed) for seed in range(3)},
    "all right": ([0, 1, 1, 0], [0, 1, 1, 0]),
    "all wrong": ([1, 0, 0, 1], [0, 1, 1, 0]),
    "no positive predicted": ([0, 0, 0], [0, 1, 1]),
    "all positive predicted": ([1, 1, 1], [0, 1, 1]),
    "no positive there": ([0, 1, 0], [0, 0, 0]),
    "no positive at all": ([0, 0], [0, 0]),
    "one row": ([1], [1]),
}


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("predictions, labels", CASES.values(), ids=CASES)
def test_metrics_are_those_of_scikit_learn(predictions, labels):
    result = compute(predictions, labels)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        labels, predictions, average="binary", zero_division=0
    )
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(labels, predictions))
    assert (result["precision"], result["recall"], result["f1"]) == pytest.approx((precision, recall, f1))
    assert result["mcc"] == pytest.approx(reference.matthews_corrcoef(labels, predictions))
    assert result["confusion_matrix"] == reference.confusion_matrix(labels, predictions, labels=[0, 1]).tolist()


@pytest.mark.parametrize("predictions, labels", CASES.values(), ids=CASES)
def test_intervals_contain_the_metric(predictions, labels):
    result = compute(predictions, labels)
    trials = {"precision": sum(predictions), "recall": sum(labels)}
    for name, interval in result["intervals"].items():
        if trials.get(name) == 0:
            assert interval is None
        else:
            low, high = interval
            assert -1 <= low <= result[name] <= high <= 1
    json.dumps(result)  # plain numbers, to be written into metrics.json


def test_accuracy_interval_is_wilsons():
    result = compute([1] * 285 + [0] * 15, [1] * 300)
    assert result["accuracy"] == pytest.approx(0.95)
    assert result["intervals"]["accuracy"] == pytest.approx([0.919, 0.969], abs=0.0005)


@pytest.mark.parametrize("name, score", [("f1", reference.f1_score), ("mcc", reference.matthews_corrcoef)])
def test_f1_and_mcc_intervals_are_those_of_a_bootstrap_over_rows(name, score):
    predictions, labels = random_vectors(seed=0)
    rng = np.random.default_rng(1)
    rows = [rng.integers(len(labels), size=len(labels)) for _ in range(400)]
    expected = np.quantile([score(labels[i], predictions[i]) for i in rows], [0.025, 0.975])
    assert compute(predictions, labels)["intervals"][name] == pytest.approx(expected, abs=0.04)


def test_a_faultless_classifier_is_not_certain_to_make_no_mistake():
    labels = [1] * 20 + [0] * 130
    few, many = compute(labels, labels)["intervals"], compute(labels * 10, labels * 10)["intervals"]
    for name in few:
        assert few[name][1] == many[name][1] == 1.0
        assert few[name][0] < many[name][0] < 0.999
    opposite = compute([1 - label for label in labels], labels)
    assert opposite["intervals"]["mcc"][0] == opposite["mcc"] == -1 < opposite["intervals"]["mcc"][1]
    assert opposite["intervals"]["f1"][0] == 0 < opposite["intervals"]["f1"][1]


def test_full_correlation_is_exactly_so():
    shares = np.linspace(0.01, 0.99, 99)
    assert (matthews_correlation(shares, 0, 0, 1 - shares) == 1).all()
    assert (matthews_correlation(0, shares, 1 - shares, 0) == -1).all()


def test_large_sets_have_a_correlation_too():
    assert matthews_correlation(90_000, 10_000, 10_000, 90_000) == pytest.approx(0.8)
    assert matthews_correlation(200_000, 0, 0, 200_000) == 1


def test_a_difference_of_f1_is_of_the_same_rows():
    rng, labels = np.random.default_rng(0), np.array([1] * 150 + [0] * 966)
    theirs = np.where(rng.random(1116) < 0.03, 1 - labels, labels)
    ours = theirs.copy()
    ours[:12] = 0  # spam that only the other one finds, or neither
    value, (low, high) = f1_difference(labels, ours, theirs)
    assert value == pytest.approx(reference.f1_score(labels, ours) - reference.f1_score(labels, theirs))
    rows = rng.integers(0, 1116, (2000, 1116))

    def f1(predictions):
        return 2 * (labels & predictions)[rows].sum(1) / (labels + predictions)[rows].sum(1)

    drawn = f1(ours) - f1(theirs)
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.006) and high < 0
    value, (low, high) = f1_difference(labels, theirs, theirs)
    assert value == 0 and low < 0 < high


def test_intervals_hold_the_truth_as_often_as_they_should():
    truth = np.array([0.86, 0.005, 0.01, 0.125])  # shares of true negatives, false positives, ... of a spam filter
    f1, mcc = f1_score(*truth), matthews_correlation(*truth)
    cells = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    held = []
    for four in np.random.default_rng(0).multinomial(300, truth, size=200):
        labels, predictions = np.repeat(cells, four, axis=0).T
        intervals = compute(predictions, labels)["intervals"]
        held.append([low <= value <= high for (low, high), value in ((intervals["f1"], f1), (intervals["mcc"], mcc))])
    assert (np.mean(held, axis=0) > 0.91).all()


def test_same_vectors_give_the_same_intervals():
    assert compute(*random_vectors(seed=0)) == compute(*random_vectors(seed=0))


def test_metric_needs_no_network(monkeypatch):
    def connect(*args, **kwargs):
        raise AssertionError("The metric opened a connection.")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert compute([1, 0], [1, 0])["accuracy"] == 1
