"""Calibration of more than two labels and of several a text, on drawn logits."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import f1_score, log_loss

from hf_gpt_scratch.data.labelled_texts import OUTSIDE
from hf_gpt_scratch.evaluation.metrics import top_label_calibration_error
from hf_gpt_scratch.evaluation.text_classification.label_calibration import fit_labels, label_metrics
from hf_gpt_scratch.evaluation.text_classification.temperature import fit_label_temperature, fit_temperature
from hf_gpt_scratch.evaluation.text_classification.thresholds import (
    FEWEST,
    OutOfReach,
    best_f1_threshold,
    threshold_of_answers,
)
from hf_gpt_scratch.evaluation.text_classification.verdicts import (
    probabilities_of,
    reading_of,
    said_of,
)
from hf_gpt_scratch.pipeline_gpt_scratch import Calibration
from hf_gpt_scratch.utils.errors import InputError

NAMES = ("billing", "delivery", "account", "other")


def draw(seed: int, size: int = 500, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too sure of their labels, which are drawn by them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (size, 4))
    labels = (softmax(logits, axis=-1).cumsum(axis=-1) < rng.random((size, 1))).sum(axis=-1)
    return temperature * logits, np.minimum(labels, 3)


def draw_several(seed: int, size: int = 500, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal([-1, 0, -2, 1], 2.5, (size, 4))
    return temperature * logits, (rng.random((size, 4)) < expit(logits)).astype(int)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("drawn", [draw, draw_several])
def test_temperature_is_recovered_and_makes_the_labels_likeliest(drawn, temperature):
    logits, labels = drawn(0, size=5000, temperature=temperature)
    found = fit_label_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.07)

    def loss(factor: float) -> float:
        calibration = Calibration(found * factor, is_multi_label=labels.ndim == 2)
        probabilities = probabilities_of(calibration, logits)
        return log_loss(labels, probabilities) if labels.ndim == 1 else log_loss(labels.ravel(), probabilities.ravel())

    assert min((0.85, 1.0, 1.15), key=loss) == 1.0


def test_one_of_several_labels_is_fitted_as_label_1_of_two():
    logits, labels = draw_several(1)
    assert fit_label_temperature(logits[:, :1], labels[:, :1]) == pytest.approx(
        fit_temperature(logits[:, 0], labels[:, 0])
    )


@pytest.mark.parametrize("n", [10, 100])
def test_a_model_without_mistakes_is_as_sure_as_so_many_texts_allow(n):
    logits = np.where(np.eye(4)[np.arange(n) % 4], 8.0, 0.0)
    probabilities = softmax(logits / fit_label_temperature(logits, np.arange(n) % 4), axis=-1)
    assert probabilities.max(axis=-1) == pytest.approx((n + 1) / (n + 2), rel=0.01)


def test_numbers_before_and_after():
    logits, labels = draw(0, temperature=3.0)
    calibration, promised = fit_labels(logits, labels, NAMES)
    assert promised is None
    before, after = (label_metrics(one, *draw(1, temperature=3.0), NAMES) for one in (Calibration(), calibration))
    assert after["ece"].value < before["ece"].value / 2 and after["log_loss"].value < before["log_loss"].value
    assert list(after)[:3] == ["macro_f1", "accuracy", "mcc"] and after["answered"].value == 1
    assert after["macro_f1"] == before["macro_f1"] and after["precision_of_answers"].value == after["accuracy"].value
    probabilities = probabilities_of(calibration, draw(1, temperature=3.0)[0])
    assert after["ece"].value == top_label_calibration_error(draw(1)[1], probabilities)
    assert not after["ece"].higher_is_better and after["ece"].value < 0.06


def test_a_promised_precision_is_kept_by_the_answers_on_other_texts():
    kept, answered = [], []
    for seed in range(40):
        calibration, promised = fit_labels(*draw(seed), NAMES, precision=0.9)
        assert promised >= 0.9 and len(set(calibration.threshold)) == 1 and len(calibration.threshold) == 4
        logits, labels = draw(1000 + seed, size=20_000)
        said = said_of(calibration, probabilities_of(calibration, logits))
        answers = said != OUTSIDE
        kept.append((said == labels)[answers].mean() >= 0.9)
        answered.append(answers.mean())
    assert np.mean(kept) >= 0.9 and np.mean(answered) > 0.4  # with a confidence of 95 %
    numbers = label_metrics(calibration, logits, labels, NAMES)
    assert numbers["answered"].value == answered[-1]
    assert numbers["precision_of_answers"].value == (said == labels)[answers].mean() > numbers["accuracy"].value


def test_the_most_answers_are_kept_and_what_cannot_be_promised_is_refused():
    confidence, is_right = np.linspace(1, 0.01, 200), np.arange(200) % 20 != 19
    threshold, at_least = threshold_of_answers(confidence, is_right, 0.9)
    assert (confidence > threshold).sum() > 150 and at_least >= 0.9
    with pytest.raises(OutOfReach, match=r"0.99 cannot be promised from 200 validation texts, at most 0\.\d+; .* 299"):
        threshold_of_answers(confidence, is_right, 0.99)
    with pytest.raises(OutOfReach, match="from 10 validation texts") as refusal:
        threshold_of_answers(np.ones(10), np.ones(10, dtype=bool), 0.95)
    assert 0.05**0.1 - 0.01 < refusal.value.reach <= 0.05**0.1


def test_the_threshold_of_a_label_is_that_of_its_highest_f1():
    logits, labels = draw_several(2, size=3000)
    for scores, has_it in zip(expit(logits).T, labels.T):
        found = best_f1_threshold(scores, has_it)
        by_threshold = {threshold: f1_score(has_it, scores > threshold) for threshold in np.linspace(0.02, 0.98, 97)}
        assert f1_score(has_it, scores > found) == pytest.approx(max(by_threshold.values()), abs=0.003)
        # Half of the highest F1, where the probabilities are right (Lipton et al. 2014)
        assert found == pytest.approx(max(by_threshold.values()) / 2, abs=0.06)
    sure = np.repeat([0.01, 0.99], 20)
    assert best_f1_threshold(sure, (sure > 0.5).astype(int)) == 0.5
    few = np.repeat([1, 0], [FEWEST - 1, 30])
    assert best_f1_threshold(few * 0.1, few) == 0.5


def test_several_labels_a_text_have_thresholds_of_their_own():
    logits, labels = draw_several(3, size=2000, temperature=2.0)
    calibration, _ = fit_labels(logits, labels, NAMES)
    before, after = (
        label_metrics(one, logits, labels, NAMES) for one in (Calibration(is_multi_label=True), calibration)
    )
    assert len(set(calibration.threshold)) == 4 and list(after)[:2] == ["micro_f1", "macro_f1"]
    assert after["macro_f1"].value > before["macro_f1"].value and after["ece"].value < before["ece"].value
    promised, at_least = fit_labels(logits, labels, NAMES, precision=0.8)
    said = said_of(promised, probabilities_of(promised, logits))
    assert at_least >= 0.8
    assert all(labels[said[:, k] == 1, k].mean() > 0.8 for k in range(4))
    with pytest.raises(OutOfReach, match=r"from \d+ billing and \d+ not billing validation texts"):
        fit_labels(logits[:100], labels[:100], NAMES, precision=0.99)


def test_words_are_read_with_the_verdict_of_the_whole_text():
    logits = np.array([[2.0, 0, 0], [0, 1.0, 0], [0, 3.0, 0]])
    calibration = Calibration(temperature=2.0, outside_threshold=0.4)
    probabilities = softmax(logits / 2, axis=-1)
    reading = reading_of(calibration, logits, label=0)
    assert reading.confidence == pytest.approx([probabilities[0, 0], probabilities[1, 1], probabilities[2, 1]])
    assert reading.is_final.tolist() == [False, True, True] and reading.is_right.tolist() == [True, False, False]
    outside = reading_of(calibration, logits / 20, label=OUTSIDE)
    assert outside.confidence.tolist() == [0, 0, 0] and outside.is_right.all()
    several = reading_of(Calibration(is_multi_label=True), logits - 1, label=np.array([0, 1, 0]))
    assert several.is_final.tolist() == [False, False, True] and several.is_right.tolist() == [False, False, True]


def test_no_precision_is_promised_for_a_label_that_no_text_has():
    logits, labels = draw_several(2)
    labels[:, 2] = 0
    with pytest.raises(InputError, match="No validation text has the label 'account', so no precision"):
        fit_labels(logits, labels, NAMES, precision=0.5)
    assert fit_labels(logits, labels, NAMES)[0].threshold[2] == 0.5
