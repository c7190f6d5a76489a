import json
import socket

import numpy as np
import pytest
from sklearn import metrics as reference

from hf_gpt_scratch.evaluation.metrics import BinaryClassification


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


def test_same_vectors_give_the_same_intervals():
    assert compute(*random_vectors(seed=0)) == compute(*random_vectors(seed=0))


def test_metric_needs_no_network(monkeypatch):
    def connect(*args, **kwargs):
        raise AssertionError("The metric opened a connection.")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert compute([1, 0], [1, 0])["accuracy"] == 1
