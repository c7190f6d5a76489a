"""Votes as a preference set: which rows they become, what is left out and said, and that the file is whole."""

import json
import re

import pytest

from hf_gpt_scratch.evaluation.preference import Pair, Votes, load_pairs
from hf_gpt_scratch.evaluation.preference_export import preferences
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.commands import run_command


def votes(*winners: tuple[int, str]) -> list[tuple[str, int, str, str]]:
    return [(f"rater {number}", item, winner, "A") for number, (item, winner) in enumerate(winners)]


def test_a_vote_becomes_a_row_of_messages_whichever_side_wins():
    pairs = [Pair("Name a colour.", "", "Red.", "A colour is red."), Pair("Translate.", "Haus", "House", "Home")]
    assert preferences(pairs, votes((0, "A"), (1, "B"))).rows == [
        {
            "prompt": [{"role": "user", "content": "Name a colour."}],
            "chosen": [{"role": "assistant", "content": "Red."}],
            "rejected": [{"role": "assistant", "content": "A colour is red."}],
        },
        {
            "prompt": [{"role": "user", "content": "Translate.\n\n### Input:\nHaus"}],
            "chosen": [{"role": "assistant", "content": "Home"}],
            "rejected": [{"role": "assistant", "content": "House"}],
        },
    ]


def test_what_prefers_nothing_is_left_out_and_counted():
    pairs = [Pair(f"Question {i}?", "", "yes", "no") for i in range(5)]
    pairs += [Pair("Empty?", "", " ", "no"), Pair("Same?", "", "no", "no")]
    given = votes(
        *((0, "A"), (0, "A"), (0, "B"), (0, "tie")),  # disputed, but decided
        *((1, "tie"), (1, "both_bad")),
        *((2, "A"), (2, "B")),
        *((3, "B"), (5, "B"), (6, "A")),
    )
    found = preferences(pairs, given)
    assert [(row["prompt"][0]["content"], row["chosen"][0]["content"]) for row in found.rows] == [
        ("Question 0?", "yes"),
        ("Question 3?", "no"),
    ]
    assert (found.disputed, found.unvoted, found.ties, found.drawn, found.unusable) == (1, 1, 1, 1, 2)
    assert str(found) == (
        "Left out: 1 without a vote, 1 with ties alone, 1 with as many votes for one answer as for the other, 2 with"
        " an empty answer or two equal ones. In 1 rows the raters disagreed, and most votes decided."
    )


def test_the_same_question_and_answers_are_one_row_with_the_votes_of_all():
    twice = [Pair("Why?", "", "So.", "Because."), Pair("Why?", "", "Because.", "So."), Pair("Why?", "", "So.", "No.")]
    found = preferences(twice, votes((0, "A"), (1, "A"), (1, "A"), (2, "B")))
    assert [row["chosen"][0]["content"] for row in found.rows] == ["Because.", "No."]
    assert found.repeated == 1 and found.disputed == 1


@pytest.fixture
def comparison(tmp_path):
    """Two files of responses with two votes on them."""
    questions = [{"instruction": f"Question {i}?", "input": "", "output": "It is."} for i in range(3)]
    files = tmp_path / "a.json", tmp_path / "b.json"
    for file in files:
        answers = [{**row, "model_response": f"{file.stem} é {i}"} for i, row in enumerate(questions)]
        file.write_text(json.dumps(answers), encoding="utf-8")
    kept = Votes.open_or_create(tmp_path / "preferences.sqlite", *files, items=3)
    for item, choice in enumerate(("left", "tie")):
        assert kept.vote("ann", item, choice)
    return files


def test_a_question_of_a_conversation_is_exported_with_the_messages_before_it(tmp_path):
    before = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    row = {"instruction": "Translate.", "input": "Haus", "output": "House", "history": before}
    files = tmp_path / "a.json", tmp_path / "b.json"
    for file in files:
        file.write_text(json.dumps([{**row, "model_response": file.stem}]))
    pairs = load_pairs(*files)
    assert pairs[0].instruction == "User: Hi.\n\nAssistant: Hello.\n\nUser: Translate."  # what raters read
    [exported] = preferences(pairs, votes((0, "B"))).rows
    assert exported["prompt"] == [*before, {"role": "user", "content": "Translate.\n\n### Input:\nHaus"}]
    assert exported["chosen"] == [{"role": "assistant", "content": "b"}]


def test_the_command_writes_a_file_that_can_be_written_again(comparison, tmp_path, capsys):
    out = tmp_path / "prefs.jsonl"
    for _ in range(2):
        run_command("app", "compare", *comparison, "--export-preferences", out)
        said = capsys.readouterr().out
        assert said == (
            f"Wrote 1 preferences of 3 questions to {out}. Left out: 1 without a vote, 1 with ties alone.\n"
        )
        [row] = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert list(row) == ["prompt", "chosen", "rejected"] and "é 0" in row["chosen"][0]["content"]


def test_another_file_is_kept_and_a_missing_folder_is_named(comparison, tmp_path):
    other = tmp_path / "notes.jsonl"
    other.write_text('{"text": "mine"}\n')
    with pytest.raises(InputError, match=f"would replace {re.escape(str(other))}, which holds something else"):
        run_command("app", "compare", *comparison, "--export-preferences", other)
    assert other.read_text() == '{"text": "mine"}\n'
    with pytest.raises(InputError, match="There is no folder"):
        run_command("app", "compare", *comparison, "--export-preferences", tmp_path / "nowhere" / "p.jsonl")
    with pytest.raises(UsageError, match="--results or --export-preferences"):
        run_command("app", "compare", *comparison, "--results", "--export-preferences", other)


def test_votes_that_prefer_nothing_write_nothing(comparison, tmp_path):
    Votes(tmp_path / "preferences.sqlite", *comparison).undo("ann", 2)
    Votes(tmp_path / "preferences.sqlite", *comparison).undo("ann", 1)
    with pytest.raises(InputError, match="No vote prefers one answer to the other.* 3 without a vote"):
        run_command("app", "compare", *comparison, "--export-preferences", tmp_path / "prefs.jsonl")
    assert not (tmp_path / "prefs.jsonl").exists()
