"""The benchmark of classifying: both classifiers say the same, and what is compared tells where they do not."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import classify_messages  # noqa: E402

from hf_gpt_scratch.data.sms_spam import load_messages  # noqa: E402


def test_both_say_the_same_of_real_messages(tmp_path):
    messages = load_messages(classify_messages.SMALL)
    texts, labels = messages.texts[:40], messages.labels[:40]
    classify_messages.make_models(tmp_path, "tiny", texts, labels, None, seed=0)
    stock, ours, half = (
        make(str(tmp_path / name), texts, *dtype)()
        for make, name, *dtype in (
            (classify_messages.make_pipeline, "stock"),
            (classify_messages.make_ours, "ours", "fp32"),
            (classify_messages.make_ours, "ours", "bf16"),
        )
    )
    assert stock[0] == ours[0] == 40 and {label for label, _ in stock[1]} == {"ham", "spam"}
    outputs = {"pipeline": stock[1], "ours fp32": ours[1], "ours bf16": half[1]}
    assert classify_messages.differences({**outputs, "ours bf16": ours[1]}) is None
    assert half[1] != ours[1]


@pytest.mark.parametrize(
    ("name", "found", "said"),
    [
        ("ours fp32", ("ham", 0.899), "a probability of ours fp32 differs by 0.001"),
        ("ours bf16", ("ham", 0.899), None),
        ("ours bf16", ("ham", 0.84), "a probability of ours bf16 differs by 0.06"),
        ("ours bf16", ("spam", 0.1), "1 labels of ours bf16 differ"),
    ],
)
def test_what_is_equal_enough(name, found, said):
    outputs = {"pipeline": [("ham", 0.9), ("spam", 0.5)], name: [found, ("spam", 0.5)]}
    difference = classify_messages.differences(outputs)
    assert difference is None if said is None else difference.startswith(said)
    outputs = {"pipeline": [("ham", 0.502)], "ours bf16": [("spam", 0.501)]}
    assert classify_messages.differences(outputs) is None


def test_what_a_precision_costs_is_said():
    outputs = {"pipeline": [("ham", 0.9), ("ham", 0.51)], "ours int8": [("ham", 0.88), ("spam", 0.51)]}
    said = classify_messages.what_it_costs(outputs, "ours int8")
    assert said == "probabilities differ by 0.0200 on average and 0.0200 at most, 1 labels"
