"""Votes: what is read and refused, what is kept, what is counted."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.evaluation import preference_results
from hf_gpt_scratch.evaluation.intervals import wilson
from hf_gpt_scratch.evaluation.preference import (
    Votes,
    judge_statistics,
    krippendorff_alpha,
    load_pairs,
    load_verdicts,
    rater_name,
    statistics,
)
from hf_gpt_scratch.utils.errors import InputError, UsageError


def responses(model: str, questions=range(6)) -> list[dict]:
    return [
        {
            "instruction": f"Question {number}?",
            "input": "It has an input." if number % 2 else "",
            "output": "The reference.",
            "model_response": f"{model} {number}",
            "finish_reason": "stop",
        }
        for number in questions
    ]


@pytest.fixture
def files(tmp_path):
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path in paths:
        path.write_text(json.dumps(responses(path.stem)))
    return paths


@pytest.fixture
def votes(files, tmp_path):
    return Votes.open_or_create(tmp_path / "votes.sqlite", *files, items=6)


def test_of_results_that_cannot_be_written_whole_none_is_left(votes, files, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    votes.vote("ann", 0, "left")
    monkeypatch.setattr(preference_results.ResultCard, "write", full)
    with pytest.raises(OSError, match="No space left"):
        preference_results.write_results(votes.path, *map(str, files), load_pairs(*files), "command")
    assert sorted(path.name for path in votes.path.parent.iterdir()) == ["a.json", "b.json", "votes.sqlite"]


def test_answers_are_paired_by_question_in_the_order_of_the_first_file(files):
    files[1].write_text(json.dumps(responses("b", reversed(range(6)))))
    pairs = load_pairs(*files)
    assert [(pair.instruction, pair.a, pair.b) for pair in pairs] == [
        (f"Question {number}?", f"a {number}", f"b {number}") for number in range(6)
    ]
    assert pairs[1].input == "It has an input."


WRONG = {
    "no JSON": ("{", "b.json is not valid JSON"),
    "no list": ('{"items": []}', "b.json must be a list"),
    "empty": ("[]", "b.json holds no responses"),
    "no objects": ('["text"]', "b.json, row 1: expected an object, not text"),
    "a missing field": (
        json.dumps([{"instruction": "Question 0?", "input": ""}]),
        "b.json, row 1: it has no field 'model_response'",
    ),
    "a number": (
        json.dumps([{"instruction": "Question 0?", "input": "", "model_response": 1}]),
        "b.json, row 1: its model_response must be text, not a number",
    ),
    "other questions": (json.dumps(responses("b", range(1, 7))), "different questions: row 1 of the first"),
    "fewer questions": (json.dumps(responses("b", range(5))), "6 questions and .*b.json 5"),
    "more questions": (json.dumps(responses("b", range(7))), "6 questions and .*b.json 7"),
}


@pytest.mark.parametrize("content, message", WRONG.values(), ids=WRONG)
def test_files_that_cannot_be_compared_are_refused_in_a_sentence(files, content, message):
    files[1].write_text(content)
    with pytest.raises(InputError, match=message) as error:
        load_pairs(*files)
    assert "\n" not in str(error.value)


def test_a_vote_survives_the_death_of_its_process(votes, files):
    program = (
        "import os, signal, sys; from hf_gpt_scratch.evaluation.preference import Votes;"
        " Votes(*sys.argv[1:]).vote('anna', 0, 'tie'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, votes.path, *files], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert [vote[:3] for vote in votes.all()] == [("anna", 0, "tie")]


def test_each_rater_goes_on_where_that_rater_stopped(votes, files):
    for item in range(3):
        assert votes.vote("anna", item, "left")
    assert votes.vote("ben", 0, "right")
    again = Votes(votes.path, *files)
    assert [again.next_item(rater) for rater in ("anna", "ben", "cleo")] == [3, 1, 0]
    for item in range(3, 6):
        assert again.vote("anna", item, "both_bad")
    assert again.next_item("anna") == 6


def test_a_second_click_or_an_overtaken_page_changes_nothing(votes):
    assert votes.vote("anna", 0, "tie")
    assert not votes.vote("anna", 0, "left")
    assert not votes.vote("anna", 2, "left")
    assert not votes.undo("anna", 0)
    assert [vote[:3] for vote in votes.all()] == [("anna", 0, "tie")]
    for item in range(1, 6):
        votes.vote("anna", item, "tie")
    assert not votes.vote("anna", 6, "left")
    assert len(votes.all()) == 6


def test_undo_takes_back_the_raters_own_latest_vote(votes):
    for rater in ("anna", "ben"):
        votes.vote(rater, 0, "tie")
    votes.vote("anna", 1, "tie")
    votes.vote("ben", 1, "tie")
    assert votes.undo("anna", 2)
    assert [vote[:2] for vote in votes.all()] == [("anna", 0), ("ben", 0), ("ben", 1)]
    assert votes.undo("anna", 1)
    assert not votes.undo("anna", 0)
    assert [vote[:2] for vote in votes.all()] == [("ben", 0), ("ben", 1)]


def test_sides_are_tossed_anew_for_each_rater_and_item_and_stay(votes, files, tmp_path):
    sides = {rater: [votes.a_is_left(rater, item) for item in range(400)] for rater in ("anna", "ben")}
    assert sides["anna"] != sides["ben"]
    for tossed in sides.values():
        assert 160 < sum(tossed) < 240  # four standard deviations
    other = Votes.open_or_create(tmp_path / "other.sqlite", *files, items=6, seed=1)
    assert [other.a_is_left("anna", item) for item in range(400)] != sides["anna"]
    assert [Votes(votes.path, *files).a_is_left("anna", item) for item in range(400)] == sides["anna"]


@pytest.mark.parametrize("choice", ["left", "right"])
def test_a_vote_for_a_side_is_a_vote_for_the_model_shown_there(votes, choice):
    lefts = ["A" if votes.a_is_left("anna", item) else "B" for item in range(6)]
    assert set(lefts) == {"A", "B"}
    for item in range(6):
        votes.vote("anna", item, choice)
    expected = lefts if choice == "left" else ["B" if left == "A" else "A" for left in lefts]
    assert [(winner, left) for _, _, winner, left in votes.all()] == list(zip(expected, lefts))


def test_votes_about_other_files_are_refused_and_kept(votes, files):
    votes.vote("anna", 0, "tie")
    before = votes.path.read_bytes()
    with pytest.raises(InputError, match="has votes on other files than .*b.json and .*a.json, in this order"):
        Votes(votes.path, *reversed(files))
    with pytest.raises(UsageError, match="started with --seed 0, not 1"):
        Votes.open_or_create(votes.path, *files, items=6, seed=1)
    files[0].write_text(json.dumps(responses("another model")))
    with pytest.raises(InputError, match="has votes on other files"):
        Votes.open_or_create(votes.path, *files, items=6)
    assert votes.path.read_bytes() == before


def test_a_file_of_another_kind_is_refused_and_kept(files, tmp_path):
    text, database = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("These are no votes. " * 100)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE plants (name TEXT)")
    connection.close()
    for path, said in (
        (text, "cannot be read or written as a file of votes"),
        (database, "not a file of votes: its table plants is"),
    ):
        before = path.read_bytes()
        with pytest.raises(InputError, match=said):
            Votes.open_or_create(path, *files, items=6)
        assert path.read_bytes() == before


def test_a_folder_is_told_from_a_missing_file(files, tmp_path):
    with pytest.raises(InputError, match="is a folder, not a file of votes"):
        Votes(tmp_path, *files)
    with pytest.raises(InputError, match="is a folder, not a file of votes"):
        Votes.open_or_create(tmp_path, *files, items=6)


def test_votes_that_another_process_begins_meanwhile_are_kept(votes, files, monkeypatch):
    votes.vote("anna", 0, "tie")
    monkeypatch.setattr(Path, "exists", lambda path: False)  # it was asked before the other process wrote
    again = Votes.open_or_create(votes.path, *files, items=6)
    assert [vote[:3] for vote in again.all()] == [("anna", 0, "tie")]


def test_a_file_whose_beginning_was_interrupted_is_begun(files, tmp_path):
    (tmp_path / "votes.sqlite").touch()
    assert Votes.open_or_create(tmp_path / "votes.sqlite", *files, items=6).vote("anna", 0, "tie")


def test_a_deleted_file_is_not_begun_anew_under_a_rater(votes):
    votes.path.unlink()
    with pytest.raises(InputError, match="unable to open"):
        votes.vote("anna", 0, "tie")
    assert not votes.path.exists()


def test_names_are_told_apart_without_case_and_spaces():
    assert rater_name("  Anna  K. ") == rater_name("anna k.") == "anna k."
    for wrong in ("", "  \n", "x" * 81):
        with pytest.raises(InputError, match="Type your name"):
            rater_name(wrong)


def test_statistics_of_counted_votes():
    given = [
        ("anna", 0, "A", "A"),
        ("anna", 1, "A", "B"),
        ("anna", 2, "B", "B"),
        ("anna", 3, "tie", "A"),
        ("ben", 0, "A", "A"),
        ("ben", 1, "B", "B"),
        ("ben", 2, "both_bad", "A"),
        ("ben", 3, "both_bad", "A"),
    ]
    result = statistics(given)
    assert (result["wins_A"], result["wins_B"], result["ties"], result["both_bad"]) == (3, 2, 1, 2)
    assert (result["votes"], result["items_voted_on"]) == (8, 4)
    assert result["raters"] == {"anna": 4, "ben": 4}
    assert result["win_rate"] == (3 + 3 / 2) / 8
    assert result["left_share"] == 4 / 5
    assert result["raters_agreement"] == 2 / 4  # items 0 and 3: a tie and both bad are one verdict
    # Coincidences: AA 2, tie-tie 2, AB 2, B-tie 2; of 8 values 3 are A, 2 B, 3 tie.
    assert result["raters_alpha"] == pytest.approx(1 - 7 * 4 / (64 - 9 - 4 - 9))
    with pytest.raises(InputError, match="no votes yet"):
        statistics([])


def test_alpha_of_the_published_example_with_missing_values():
    """Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: nominal, 0.743."""
    raters = ("1233 2141 2...", "1233 2241 25.3", ".333 2342 251.", "1233 2441 251.")
    units = zip(*(rater.replace(" ", "") for rater in raters))
    assert krippendorff_alpha([v for v in unit if v != "."] for unit in units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_none_where_nothing_can_be_compared():
    assert krippendorff_alpha([["A"], ["B"]]) is None
    assert krippendorff_alpha([["A", "A"], ["A", "A"]]) is None
    assert krippendorff_alpha([["A", "A"], ["B", "B"]]) == 1


def test_interval_is_that_of_the_mean_and_counts_items_not_votes():
    one = [("anna", item, "A" if item % 4 else "B", "A") for item in range(100)]
    result = statistics(one)
    assert result["win_rate"] == 0.75
    half = 1.96 * (0.75 * 0.25 / 100) ** 0.5
    assert result["win_rate_interval"] == pytest.approx([0.75 - half, 0.75 + half], abs=0.01)
    # Nine more raters who vote the same tell nothing new; nine who do not would.
    ten = [(f"rater {n}", item, winner, left) for n in range(10) for _, item, winner, left in one]
    assert statistics(ten)["win_rate_interval"] == result["win_rate_interval"]
    mixed = [(f"rater {n}", item, "B" if (item + n) % 4 == 0 else "A", "A") for n in range(10) for item in range(100)]
    low, high = statistics(mixed)["win_rate_interval"]
    assert high - low < half / 2


def test_items_voted_alike_have_the_interval_of_a_share():
    assert statistics([("anna", item, "A", "A") for item in range(60)])["win_rate_interval"] == wilson(60, 60)


def write_verdicts(path, pairs, winners):
    """A judge's file about the pairs; returns its path."""
    items = [
        {
            "instruction": pair.instruction,
            "input": pair.input,
            "model_response_a": pair.a,
            "model_response_b": pair.b,
            "winner": winner,
        }
        for pair, winner in zip(pairs, winners)
    ]
    path.write_text(json.dumps({"items": items}))
    return path


def test_verdicts_name_the_models_as_the_pairs_do(files, tmp_path):
    winners = ["A", "B", "tie", "A", None, "B"]
    path = write_verdicts(tmp_path / "judge.json", load_pairs(*files), winners)
    assert load_verdicts(path, load_pairs(*files)) == {0: "A", 1: "B", 2: "tie", 3: "A", 5: "B"}
    assert load_verdicts(path, load_pairs(*reversed(files))) == {0: "B", 1: "A", 2: "tie", 3: "B", 5: "A"}


def test_verdicts_on_the_same_question_go_by_the_answers(files, tmp_path):
    for path in files:
        rows = json.loads(path.read_text())
        for row in rows:
            row |= {"instruction": "The same?", "input": ""}
        path.write_text(json.dumps(rows))
    pairs = load_pairs(*files)
    path = write_verdicts(tmp_path / "judge.json", pairs[::-1], ["A", "B", "tie", "tie", "tie", "B"])
    assert load_verdicts(path, pairs) == {5: "A", 4: "B", 3: "tie", 2: "tie", 1: "tie", 0: "B"}


def test_verdicts_on_other_models_are_refused(files, tmp_path):
    path = write_verdicts(tmp_path / "judge.json", load_pairs(*files), "AAAAAA")
    rows = json.loads(files[1].read_text())
    rows[3]["model_response"] = "of another model"
    files[1].write_text(json.dumps(rows))
    for order in (files, files[::-1]):
        with pytest.raises(InputError, match="Item 4 of .* judges a question or answers that are not in"):
            load_verdicts(path, load_pairs(*order))


def test_agreement_with_the_judge(files, tmp_path):
    pairs = load_pairs(*files)
    verdicts = load_verdicts(write_verdicts(tmp_path / "judge.json", pairs, ["A", "B", "tie", "A", None]), pairs)
    assert verdicts == {0: "A", 1: "B", 2: "tie", 3: "A"}
    given = [
        ("anna", 0, "A", "A"),
        ("ben", 0, "tie", "A"),
        ("anna", 1, "B", "A"),
        ("anna", 2, "both_bad", "A"),
        ("anna", 3, "B", "A"),
        ("anna", 4, "B", "A"),
    ]
    result = judge_statistics(given, verdicts)
    assert result["judged_items_voted_on"] == 4
    assert result["judge_agreement"] == (0.5 + 1 + 1 + 0) / 4
    assert result["judge_agreement_without_ties"] == 2 / 3
    # The raters' verdicts: tie (a draw), B, tie, B. Coincidences A-tie 2, BB 2, tie-tie 2, AB 2.
    assert result["judge_alpha"] == pytest.approx(1 - 7 * 4 / (64 - 4 - 9 - 9))
    assert judge_statistics([("anna", 5, "A", "A")], verdicts)["judge_agreement"] is None


ITEM = {
    "instruction": "Question 0?",
    "input": "",
    "model_response_a": "a 0",
    "model_response_b": "b 0",
    "winner": "A",
}
WRONG_VERDICTS = {
    "no items": ([], "has no list 'items'"),
    "no winner": ({"items": [{"instruction": "Question 0?", "input": ""}]}, "Item 1 .* no 'winner'"),
    "another winner": ({"items": [ITEM | {"winner": "C"}]}, "Item 1 .* 'winner'"),
    "another question": ({"items": [ITEM | {"instruction": "Why?"}]}, "not in the comparison"),
    "a question twice": ({"items": [ITEM, ITEM]}, "Item 2 .* not in the comparison"),
    "a list for a question": ({"items": [ITEM | {"instruction": []}]}, "Item 1 .* no question and two answers"),
    "no answers": ({"items": [{"instruction": "Why?", "input": "", "winner": "A"}]}, "no question and two answers"),
}


@pytest.mark.parametrize("content, message", WRONG_VERDICTS.values(), ids=WRONG_VERDICTS)
def test_a_file_that_is_not_a_judges_is_refused(files, tmp_path, content, message):
    (tmp_path / "judge.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load_verdicts(tmp_path / "judge.json", load_pairs(*files))
