"""How the page of a classifier of any labels shows words: colours, bands that fill the curve, untrusted text."""

import re

import pytest

from hf_gpt_scratch.apps import label_words
from hf_gpt_scratch.apps.label_words import Colours
from hf_gpt_scratch.classification.classifier import Prediction, WordReading
from support.in_browser import UNTRUSTED

NAMES = ("billing", "delivery", "login")


def reading(word: str, *probabilities: float, names=NAMES, outside: bool = False) -> WordReading:
    highest = max(probabilities)
    label = names[probabilities.index(highest)]
    labels = () if outside else (label,)
    return WordReading(word, probabilities, "outside" if outside else label, highest, labels, highest)


READINGS = [reading("Charged", 0.6, 0.3, 0.1), reading(" twice", 0.8, 0.1, 0.1)]


def test_every_word_has_the_colour_the_label_and_the_number_of_its_verdict():
    shown = label_words.words_html([*READINGS, reading(" ?", 0.2, 0.5, 0.3, outside=True)], Colours(NAMES, READINGS))
    words = re.findall(r'--tint: var\(--colour-(\w+)\); --strength: (\d+)%.*?aria-label="(.*?)">(.*?)<', shown)
    assert words == [
        ("0", "60", "After word 1, “Charged”: billing 60.0%", "Charged"),
        ("0", "80", "After word 2, “twice”: billing 80.0%", "twice"),
        ("other", "50", "After word 3, “?”: outside 50.0%", "?"),
    ]


def test_the_bands_lie_on_top_of_each_other_and_fill_the_curve():
    shown = label_words.curve_html(READINGS, Colours(NAMES, READINGS))
    bands = [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'<polygon[^>]*points="(.*?)"', shown)
    ]
    assert len(bands) == 3
    tops, floors = zip(*((band[: len(band) // 2], band[len(band) // 2 :][::-1]) for band in bands))
    assert floors[0] == [(0, 100), (25, 100), (75, 100), (100, 100)]
    assert tops[0] == floors[1] == [(0, 40), (25, 40), (75, 20), (100, 20)]
    assert tops[1] == floors[2] and [y for _, y in tops[2]] == pytest.approx([0] * 4, abs=0.01)
    assert shown.count('class="point label"') == 2


def test_probabilities_of_several_labels_are_lines():
    several = [reading("a", 0.9, 0.8, 0.1), reading(" b", 0.7, 0.9, 0.2)]
    shown = label_words.words_html(several, Colours(NAMES, several), is_multi_label=True)
    assert re.findall(r'<polyline[^>]*points="(.*?)"', shown) == [
        "25.00,10.00 75.00,30.00",
        "25.00,20.00 75.00,10.00",
        "25.00,90.00 75.00,80.00",
    ]
    assert "<polygon" not in shown and "Probability of each label" in shown


def test_of_many_labels_the_likeliest_have_colours_and_the_others_one_together():
    names = tuple(f"topic {i}" for i in range(12))
    rest = [0.01] * 11
    readings = [reading("a", *rest, 0.89, names=names), reading(" b", *rest[:9], 0.5, 0.01, 0.4, names=names)]
    colours = Colours(names, readings)
    assert {"topic 9", "topic 11"} <= {name for name, _ in colours.shown()}
    assert len(colours.shown()) == label_words.COLOURS + 1 and colours.shown()[-1][0] == "other labels"
    assert sum(colours.shares(readings[0].probabilities)) == pytest.approx(1)
    assert colours.tint("topic 10") == "var(--colour-other)"


def test_the_verdict_lists_the_likeliest_labels():
    prediction = Prediction("x", "billing", 0.7, False, (0.7, 0.2, 0.1), ("billing",))
    shown = label_words.verdict_html(prediction, NAMES, Colours(NAMES, READINGS), "Cut.")
    assert re.findall(r'class="name( said)?">(\w+)<', shown) == [(" said", "billing"), ("", "delivery"), ("", "login")]
    assert 'width: 70.0%"' in shown and ">20.0%<" in shown and "Cut." in shown
    names = tuple(f"topic {i}" for i in range(12))
    many = Prediction("x", "topic 0", 0.5, False, (0.5, *[0.045] * 11), ("topic 0",))
    assert "and 6 less likely labels" in label_words.verdict_html(many, names, Colours(names, []))


def test_words_and_labels_are_escaped():
    names = (UNTRUSTED, "b", "c")
    readings = [reading(UNTRUSTED, 0.8, 0.1, 0.1, names=names)]
    colours = Colours(names, readings)
    prediction = Prediction("x", UNTRUSTED, 0.8, False, (0.8, 0.1, 0.1), (UNTRUSTED,))
    shown = label_words.words_html(readings, colours) + label_words.verdict_html(prediction, names, colours)
    assert "<script" not in shown and "<img" not in shown and "&lt;script&gt;" in shown
