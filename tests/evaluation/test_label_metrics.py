"""The numbers of K labels and of several a text, against scikit-learn, a bootstrap and the binary ones."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as reference

from hf_gpt_scratch.evaluation.metrics import (
    BinaryClassification,
    Classification,
    expected_calibration_error,
    f1_difference,
    macro_f1_difference,
    mcnemar,
    top_label_calibration_error,
)

NAMES = ("billing", "delivery", "account", "other")
AVERAGES = ("precision", "recall", "f1")


def draw(seed: int, size: int = 300, errors: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Labels of unequal shares, and predictions that are wrong for a share of them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size, p=[0.5, 0.3, 0.15, 0.05])
    return labels, np.where(rng.random(size) < errors, rng.integers(4, size=size), labels)


def draw_several(seed: int, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((size, 3)) < [0.5, 0.3, 0.1]).astype(int)
    return labels, np.where(rng.random((size, 3)) < 0.1, 1 - labels, labels)


def compute(labels, said, names=NAMES, **options) -> dict:
    return Classification(names, **options).compute(predictions=said, references=labels)


@pytest.mark.parametrize(
    "labels, said",
    [draw(0), draw(1, size=20), ([0, 1, 2, 3], [0, 1, 2, 3]), ([0, 0, 1], [1, 1, 0]), ([0, 1], [0, 2]), ([1], [1])],
)
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_numbers_of_labels_are_those_of_scikit_learn(labels, said):
    result = compute(labels, said)
    averages = reference.precision_recall_fscore_support(labels, said, average="macro", zero_division=0)
    assert [result[f"macro_{name}"] for name in AVERAGES] == pytest.approx(averages[:3])
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(labels, said))
    assert result["mcc"] == pytest.approx(reference.matthews_corrcoef(labels, said))
    assert result["confusion_matrix"] == reference.confusion_matrix(labels, said, labels=range(4)).tolist()
    single = reference.precision_recall_fscore_support(labels, said, labels=range(4), zero_division=0)
    for name, values in zip((*AVERAGES, "support"), single):
        assert [result["per_class"][label][name] for label in NAMES] == pytest.approx(values)
    json.dumps(result)


def test_numbers_of_several_labels_a_text_are_those_of_scikit_learn():
    labels, said = draw_several(0)
    result = compute(labels, said, NAMES[:3], is_multi_label=True)
    for average in ("macro", "micro"):
        expected = reference.precision_recall_fscore_support(labels, said, average=average)
        assert [result[f"{average}_{name}"] for name in AVERAGES] == pytest.approx(expected[:3])
    assert result["subset_accuracy"] == pytest.approx(reference.accuracy_score(labels, said))
    assert list(result["intervals"]) == [name for name in result if name not in ("intervals", "per_class")]
    json.dumps(result)


def test_intervals_hold_their_number_and_without_them_it_is_the_same():
    for data, options in ((draw(0), {}), (draw_several(0), {"names": NAMES[:3], "is_multi_label": True})):
        result = compute(*data, **options)
        for one in (result, *result["per_class"].values()):
            for name, (low, high) in one["intervals"].items():
                assert 0 <= low <= one[name] <= high <= 1 and 0 < high - low < 0.5, name
        quick = compute(*data, **options, with_intervals=False)
        assert "intervals" not in quick and "intervals" not in quick["per_class"]["billing"]
        assert all(result[name] == value for name, value in quick.items() if name != "per_class")


def test_two_labels_have_the_binary_intervals():
    labels, said = (np.minimum(values, 1) for values in draw(2))
    ours, binary = (
        compute(labels, said, NAMES[:2]),
        BinaryClassification().compute(predictions=said, references=labels),
    )
    for name in ("accuracy", "mcc"):
        assert ours["intervals"][name] == pytest.approx(binary["intervals"][name], abs=0.004)
    assert ours["per_class"]["delivery"]["intervals"]["f1"] == pytest.approx(binary["intervals"]["f1"], abs=0.004)


def bootstrap(score, *rows, draws: int = 300) -> np.ndarray:
    rng, size = np.random.default_rng(1), len(rows[0])
    chosen = (rng.integers(size, size=size) for _ in range(draws))
    return np.quantile([score(*(values[i] for values in rows)) for i in chosen], [0.025, 0.975])


def macro_f1(labels, said) -> float:
    return reference.f1_score(labels, said, average="macro")


def test_intervals_are_those_of_a_bootstrap_over_rows():
    labels, said = draw(3, size=1000)
    found = compute(labels, said)["intervals"]
    assert found["macro_f1"] == pytest.approx(bootstrap(macro_f1, labels, said), abs=0.015)
    assert found["mcc"] == pytest.approx(bootstrap(reference.matthews_corrcoef, labels, said), abs=0.01)
    labels, said = draw_several(0)
    found = compute(labels, said, NAMES[:3], is_multi_label=True)["intervals"]
    assert found["macro_f1"] == pytest.approx(bootstrap(macro_f1, labels, said), abs=0.015)


def test_intervals_hold_the_truth_as_often_as_they_should():
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    truth = compute(*draw(0, size=400_000, errors=0.1), with_intervals=False)
    held = []
    for seed in range(60):
        found = compute(*draw(seed, size=int(300 / shares.sum()), errors=0.1))["intervals"]
        held.append([found[name][0] <= truth[name] <= found[name][1] for name in ("macro_f1", "macro_recall", "mcc")])
    assert (np.mean(held, axis=0) > 0.88).all()


def test_a_faultless_classifier_is_not_certain_to_make_no_mistake():
    labels = np.arange(40) % 4
    few, many = (compute(labels.repeat(n), labels.repeat(n))["intervals"] for n in (1, 10))
    for name in few:
        assert few[name][1] == many[name][1] == 1.0 and few[name][0] < many[name][0] < 0.9995, name
    rows = np.eye(4, dtype=int)[labels]
    for name, (low, high) in compute(rows, rows, is_multi_label=True)["intervals"].items():
        assert 0.8 < low < 0.999 and high == 1, name


def test_a_difference_of_macro_f1_is_of_the_same_rows():
    labels, theirs = draw(4, size=1000)
    ours = np.where(np.arange(1000) % 25 == 0, 0, theirs)
    value, interval = macro_f1_difference(labels, ours, theirs, 4)
    assert value == pytest.approx(macro_f1(labels, ours) - macro_f1(labels, theirs))
    expected = bootstrap(lambda y, one, other: macro_f1(y, one) - macro_f1(y, other), labels, ours, theirs)
    assert interval == pytest.approx(expected, abs=0.01)
    value, (low, high) = macro_f1_difference(labels, theirs, theirs, 4)
    assert value == 0 and low < 0 < high
    rows, said = draw_several(1)
    worse = np.where(np.arange(300)[:, None] % 10 == 0, 0, said)
    value, interval = macro_f1_difference(rows, worse, said)
    assert value == pytest.approx(macro_f1(rows, worse) - macro_f1(rows, said))
    expected = bootstrap(lambda y, one, other: macro_f1(y, one) - macro_f1(y, other), rows, worse, said)
    assert interval == pytest.approx(expected, abs=0.015)


def test_the_difference_of_two_labels_is_as_wide_as_the_binary_one():
    labels, theirs = (np.minimum(values, 1) for values in draw(5, size=600))
    ours = np.where(np.arange(600) % 30 == 0, 1, theirs)
    _, (low, high) = macro_f1_difference(labels, ours, theirs, 2)
    _, (lowest, highest) = f1_difference(labels, ours, theirs)
    assert high - low == pytest.approx(highest - lowest, rel=0.35)


def test_mcnemar_is_the_exact_test_of_the_rows_that_only_one_judges_rightly():
    ours, theirs = np.array([1, 1, 1, 1, 1, 1, 0, 1], dtype=bool), np.array([1, 0, 0, 0, 0, 0, 1, 1], dtype=bool)
    expected = {"only_ours_right": 5, "only_theirs_right": 1, "p_value": binomtest(1, 6).pvalue}
    assert mcnemar(ours, theirs) == expected
    assert mcnemar(ours, ours)["p_value"] == 1


def test_calibration_error_is_that_of_the_winner_or_of_every_label():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.34, 0.33, 0.33]])
    expected = (abs(0.7 - 0) + abs(0.8 - 1) + abs(0.34 - 1)) / 3
    assert top_label_calibration_error([1, 1, 0], probabilities) == pytest.approx(expected)
    rows = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    expected = expected_calibration_error(rows.ravel(), probabilities.ravel())
    assert top_label_calibration_error(rows, probabilities) == pytest.approx(expected)
