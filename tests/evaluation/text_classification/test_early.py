"""The early verdict's threshold against a search by hand, and what it costs on other texts."""

from types import SimpleNamespace

import numpy as np
import pytest

from hf_gpt_scratch.classification.calibration import Calibration
from hf_gpt_scratch.commands.calibrate import _early_lines
from hf_gpt_scratch.evaluation.text_classification.early import (
    AGREEMENTS,
    Reading,
    early_table,
    fit_early_threshold,
    measure_early,
)


def reading(confidence, is_final, is_right=None) -> Reading:
    is_final = np.array(is_final, dtype=bool)
    return Reading(np.array(confidence, dtype=float), is_final, is_final if is_right is None else np.array(is_right))


def draw(seed: int, texts: int = 300) -> list[Reading]:
    """Texts whose verdict wavers less, and is surer, the more of its words were read."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(texts):
        words = rng.integers(1, 15)
        evidence = np.cumsum(rng.normal(0.4, 1, words))
        confidence, said = 1 / (1 + np.exp(-np.abs(evidence))), evidence > 0
        found.append(Reading(confidence, said == said[-1], said))
    return found


def agreement(readings, threshold) -> float:
    return np.mean([one.is_final[one.decided_at(threshold) - 1] for one in readings])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_threshold_is_the_lowest_from_which_on_the_share_agrees(seed):
    readings = draw(seed, texts=60)
    candidates = np.unique(np.concatenate([[0.0], *(one.confidence for one in readings)]))
    shares = np.array([agreement(readings, threshold) for threshold in candidates])
    for wanted in AGREEMENTS:
        found = fit_early_threshold(readings, wanted)
        from_here_on = np.minimum.accumulate(shares[::-1])[::-1] >= wanted - 1e-12
        assert found == candidates[from_here_on.argmax()], wanted


def test_texts_that_are_sure_at_once_are_decided_at_the_first_word():
    sure = [reading([0.9, 0.95], [True, True])] * 5
    assert fit_early_threshold(sure, 0.99) == 0.0 and sure[0].decided_at(0.0) == 1


def test_an_outside_verdict_is_never_said_early():
    outside = reading([0.0, 0.8, 0.0], [True, False, True])
    assert fit_early_threshold([outside], 0.9) == 0.8 and outside.decided_at(0.8) == 3
    never = reading([0.0, 0.0], [True, True])
    assert fit_early_threshold([never], 0.9) == 0.0 and never.decided_at(0.0) == 2


def test_what_it_costs_and_saves():
    readings = [
        reading([0.5, 0.9, 0.6, 0.8], [False, True, True, True], [False, True, True, True]),
        reading([0.95, 0.7], [False, True], [True, False]),
        reading([0.3, 0.4], [True, True], [False, False]),
    ]
    metrics = measure_early(0.8, readings).metrics
    assert metrics["agreement"].value == pytest.approx(2 / 3)
    assert metrics["error"].value == pytest.approx(1 / 3)  # the last one, which the whole text gets wrong too
    assert metrics["words_read"].value == pytest.approx((2 + 1 + 2) / 8)
    whole = measure_early(1.0, readings).metrics
    assert (whole["agreement"].value, whole["words_read"].value) == (1, 1)
    assert whole["error"].value == pytest.approx(2 / 3)
    for metric in metrics.values():
        assert metric.interval[0] <= metric.value <= metric.interval[1]


def test_the_table_holds_on_other_texts_and_asks_for_more_words_the_more_must_agree():
    table = early_table(draw(0, texts=1000), draw(1, texts=1000))
    assert list(table) == ["0.9", "0.95", "0.98", "0.99", "0.995", "0.999"]
    for name, verdicts in table.items():
        assert verdicts.metrics["agreement"].value >= float(name) - 0.02
        assert verdicts.kept() == {
            "threshold": verdicts.threshold,
            **{key: metric.value for key, metric in verdicts.metrics.items()},
        }
    read = [verdicts.metrics["words_read"].value for verdicts in table.values()]
    assert read == sorted(read) and read[0] < 0.8


def test_rows_that_are_the_same_are_printed_once_and_the_columns_are_explained():
    readings = [reading([0.2, 0.9], [False, True]), reading([0.6, 0.7], [True, True])]
    values = {"0.9": 0.2, "0.95": 0.2, "0.98": 0.2, "0.99": 0.5, "0.995": 0.8, "0.999": 0.8}
    early = {name: measure_early(threshold, readings) for name, threshold in values.items()}
    found = {"early": early, "whole": measure_early(1.0, readings)}
    lines = _early_lines(SimpleNamespace(**found, calibration=Calibration()))
    shown = [line.partition("  ")[0] for line in lines[1:-1]]
    assert shown == ["0.9 to 0.98", "0.99", "0.995 to 0.999", "the whole text"]
    assert lines[-1] == (
        "agreement: the early verdict is that on the whole text; error: it is not the text's own label; words_read:"
        " share of all words."
    )
    lines = _early_lines(SimpleNamespace(**found, calibration=Calibration(outside_threshold=0.4)))
    assert "own label, also where it is 'outside'; words_read" in lines[-1]
