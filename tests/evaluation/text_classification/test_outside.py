"""The outside answer's threshold against a search by hand, and its numbers against scikit-learn's."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hf_gpt_scratch.classification.calibration import Calibration, settings
from hf_gpt_scratch.evaluation.intervals import wilson
from hf_gpt_scratch.evaluation.text_classification.calibration import Texts, fit_outside
from hf_gpt_scratch.evaluation.text_classification.outside import fit_outside_threshold, measure_outside


def draw(seed: int, inside: int = 200, outside: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.beta(6, 1.5, inside), rng.beta(3, 4, outside)


def test_the_threshold_tells_the_most_outside_texts_for_the_fewest_inside_ones():
    inside, outside = draw(0)
    threshold = fit_outside_threshold(inside, outside, refuse=1.0)

    def gain(threshold: float) -> float:
        return (outside <= threshold).mean() - (inside <= threshold).mean()

    assert gain(threshold) == max(gain(value) for value in [0.0, *inside, *outside]) > 0.5
    threshold = fit_outside_threshold(inside, outside, refuse=0.05)
    affordable = [value for value in [0.0, *inside, *outside] if (inside <= value).mean() <= 0.05]
    assert gain(threshold) == max(gain(value) for value in affordable) and 0 < (inside <= threshold).mean() <= 0.05


def test_where_outside_texts_are_the_surer_ones_none_is_refused():
    assert fit_outside_threshold(np.array([0.5, 0.6]), np.array([0.9, 0.95])) == 0.0


def test_the_numbers_are_those_of_the_texts():
    inside, outside = draw(1)
    is_right = np.arange(200) % 10 > 0
    found = measure_outside(0.6, inside, outside, is_right)
    assert (found.told, found.texts) == ((outside <= 0.6).sum(), 60)
    assert (found.refused, found.inside_texts) == ((inside <= 0.6).sum(), 200)
    assert found.metrics["outside_told"].value == found.told / 60
    assert found.metrics["outside_told"].interval == wilson(found.told, 60)
    assert found.metrics["inside_refused"].value == found.refused / 200
    assert not found.metrics["inside_refused"].higher_is_better
    assert found.metrics["accuracy_of_answers"].value == is_right[inside > 0.6].mean()
    auroc = found.metrics["auroc"]
    expected = roc_auc_score(np.repeat([1, 0], [200, 60]), np.concatenate([inside, outside]))
    assert auroc.value == pytest.approx(expected)
    assert expected - 0.08 < auroc.interval[0] < expected - 0.01 and expected < auroc.interval[1] < 1


def test_nothing_answered_is_no_division_by_zero():
    found = measure_outside(1.0, np.array([0.5]), np.array([0.4]), np.array([True]))
    assert found.metrics["accuracy_of_answers"].value == 0 and found.metrics["accuracy_of_answers"].interval is None


def fit_texts(inside, outside, refuse: float, **calibration):
    """`fit_outside` of two labels' texts by the logit of the first."""
    logits = [np.stack([values, np.zeros(len(values))], axis=1) for values in map(np.array, (inside, outside))]
    run = SimpleNamespace(outside={"validation": ["x"] * len(outside), "test": ["x"]})
    return fit_outside(
        run, Calibration(**calibration), Texts(logits[0], {}, np.zeros(len(inside), int), logits[1]), refuse
    )


def test_a_threshold_that_could_never_fire_is_not_kept_and_what_to_do_is_said():
    inside = [0.5, 1.0, *np.arange(2.0, 3.8, 0.2)]  # two of eleven are as unsure as the outside texts
    kept, [note] = fit_texts(inside, [0.6, 1.2], refuse=0.05)
    assert kept.outside_threshold is None and "outside_threshold" not in settings(kept)
    assert note == (
        "No outside answer is fitted: where at most 5% of the 11 validation texts of its labels are refused, no"
        " threshold tells a larger share of the 2 outside ones, so `classify` never says 'outside'. Try `--refuse"
        " 0.2`, or train on more texts, outside ones too."
    )
    kept, notes = fit_texts(inside, [0.6, 1.2], refuse=0.2)
    assert kept.outside_threshold > 0.5 and notes == []


def test_where_no_share_helps_none_is_proposed():
    _, [note] = fit_texts([1.0, 2.0], [3.0, 4.0], refuse=0.1)
    assert note.endswith("More texts of your labels, and more outside texts, may help.")
    _, [note] = fit_texts([1.0, 2.0], [3.0, 4.0], 0.1, threshold=[0.6, 0.6])  # of a promised precision
    assert "never says" not in note
