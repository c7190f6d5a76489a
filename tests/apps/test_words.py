"""How the classifier's page shows words: numbers without a mouse, an axis that stays readable, untrusted text."""

import re

import pytest

from hf_gpt_scratch.apps import words
from support.in_browser import UNTRUSTED

NAMES = ("ham", "spam")


def test_words_are_escaped_and_marked_above_the_threshold():
    shown = words.words_html([(UNTRUSTED, 0.2), (" prize", 0.7)], 0.5, NAMES)
    assert "<script" not in shown and "<img" not in shown and "&lt;script&gt;" in shown
    assert shown.count('class="word above"') == 1
    assert words.words_html([(" prize", 0.7)], 0.8, NAMES).count('class="word above"') == 0


def test_every_word_has_its_number_and_says_it():
    shown = words.words_html([("You", 0.1234), (" won", 0.967)], 0.5, NAMES)
    assert re.findall(r'data-percent="(\d+)" aria-label="(.*?)">(\w+)<', shown) == [
        ("12", "After word 1, “You”: 12.3% spam", "You"),
        ("97", "After word 2, “won”: 96.7% spam", "won"),
    ]


def test_a_tint_is_stronger_the_surer_the_model_is():
    shown = words.words_html([("a", 0.5), (" b", 0.0), (" c", 0.75)], 0.5, NAMES)
    tints = re.findall(r"--tint: var\(--label-(\d)\); --strength: (\d+)%", shown)
    assert tints == [("0", "0"), ("0", "100"), ("1", "50")]


def test_the_curve_has_a_point_for_each_word_and_the_threshold():
    shown = words.curve_html([("a", 0.1), (" $5", 0.9)], 0.25, NAMES)
    assert re.findall(r'class="point( one)?" data-number="(\d)" style="left: (.*?)%; bottom: (.*?)%"', shown) == [
        ("", "1", "25.00", "10.00"),
        (" one", "2", "75.00", "90.00"),
    ]
    assert 'class="threshold" style="bottom: 25.0%"' in shown and "threshold 25.0%" in shown
    assert 'polyline points="25.00,90.00 75.00,10.00"' in shown


@pytest.mark.parametrize(
    ("count", "written", "hint"), [(14, 14, ""), (15, 8, "every second word"), (42, 14, "third"), (60, 12, "5th")]
)
def test_of_many_words_the_axis_has_at_most_14(count, written, hint):
    shown = words.curve_html([(f" word{i}", 0.5) for i in range(count)], 0.5, NAMES)
    labels = re.findall(r"<span[^>]*>word\d+</span>", shown)
    assert len(labels) == written and shown.count('class="point') == count
    assert hint in shown and ("every" in shown) == (count > 14)


def test_long_words_are_short_on_the_axis_alone():
    long = "x" * 40
    shown = words.words_html([(long, 0.5)], 0.5, NAMES)
    assert f">{long}</span>" in shown and f">{'x' * 11}…</span>" in shown


@pytest.mark.parametrize(("probability", "label", "side"), [(0.9, "spam", "above"), (0.25, "ham", "not above")])
def test_the_verdict_is_the_label_the_probability_and_the_threshold(probability, label, side):
    shown = words.verdict_html(NAMES, probability, 0.25, "Cut.")
    assert f">{label}</div>" in shown and "Cut." in shown
    assert f"{probability:.1%} spam, {side} the threshold of 25.0%." in shown
    assert "<b>" not in words.verdict_html(("<b>", "<i>"), 0.1, 0.5)
