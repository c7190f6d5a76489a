"""The strict reading of a judge's answers."""

import pytest

from hf_gpt_scratch.evaluation.judge.prompts import COMPARE, SCORE, Task, parse_score, parse_winner

SCORES = {
    "87": 87,
    " 87.\n": 87,
    "0": 0,
    "100": 100,
    "87.5": 87.5,
    "**87**": 87,
    "87/100": 87,
    "87 out of 100": 87,
    "Score: 87": 87,
    "score = 87/100": 87,
    "**Score:** 87": 87,
    "Final score: 87\n\nThe answer names 3 of 4 cities.": 87,
    "The answer names 3 of 4 cities.\n\nScore: 75/100.": 75,
    '{"score": 87}': 87,
    '{"reason": "names 3 of 4", "score": 87.5}': 87.5,
    '{"score": "87/100"}': 87,
    '```json\n{"score": 87}\n```': 87,
    "<think>\n50? No, more. Score: 60\n</think>\n\n87": 87,
    "<think>\nScore: 60\n</think>\nNo.\nScore: 70\n</think>\n87": 87,
    'First guess:\nScore: 60\nNo.\n</think>\n\n{"score": 87}': 87,
    "Score: 87\nScore: 87": 87,
    "- Score: 87": 87,
    "**Score (0-100):**\n87": 87,
    'Score: 87\n\n```json {"score": 87}```': 87,
}
NO_SCORES = [
    "",
    "ninety",
    "Score: ninety",
    "150",
    "-5",
    "1e1",
    "8 or 9",
    "80-90",
    "Score: 80 or 90",
    "Score: 80\nScore: 90",
    "Score: 8/10",
    "0.9",
    '{"score": 1.0}',
    "Overall score: 87\nAccuracy score: 90",
    "8/10",
    "87%",
    "87 90",
    "The answer names 3 cities.",
    "I would say 87",
    "101",
    "٨٧",
    '{"score": 150}',
    '{"score": true}',
    '{"score": null}',
    '{"score": NaN}',
    '{"score": -1}',
    '{"score": [87]}',
    '{"score": 10, "score": 90}',
    '{"points": 87}',
    '{"score": 87',
    "[87]",
    "<think>Score: 87",
    "<think>\nScore: 87\nor",
    'Score: 60\n\n```json {"score": 87}```',
    'Score: 60\n\n```json\n{\n  "score": 87',
    "Score: 60\n{'result': {'score' : '87'}}",
]


@pytest.mark.parametrize(("text", "score"), SCORES.items())
def test_scores(text, score):
    assert parse_score(text) == score


@pytest.mark.parametrize("text", NO_SCORES)
def test_no_scores(text):
    assert parse_score(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A", 1),
        ("b.", 0),
        ("[[B]]", 0),
        ("Tie", 0.5),
        ("Winner: A", 1),
        ('{"winner": "tie"}', 0.5),
        ("A or B", None),
        ("Answer A is better than B", None),
        ("Winner: A\nWinner: B", None),
        ('Winner: A\n</think>\n{"winner": "B"}', 0),
        ('Winner: A\n{"winner": "B"}', None),
        ('Winner: A\n{"winner": "a"}', 1),
        ('{"winner": "C"}', None),
        ("A tie", None),
        ("", None),
    ],
)
def test_winners(text, value):
    assert parse_winner(text) == value


@pytest.mark.parametrize("mode", [SCORE, COMPARE])
def test_what_a_model_in_process_may_say_is_what_the_parser_reads(mode):
    assert mode.choices == {choice: mode.parse(choice) for choice in mode.choices}
    assert {"A", "B", "tie"} == set(COMPARE.choices) and "A, B or tie" in COMPARE.as_text


def test_braces_in_texts_stay_as_they_are():
    text = Task("Format {x}", "{0}", "{task}", ("{responses[0]}", "{}")).message("{form}")
    for part in ("Format {x}", "### Input:\n{0}", "\n{task}\n", "\n{responses[0]}\n", "\n{}\n", "{form}"):
        assert part in text
