"""The commands that the report kills: the measure sees what a kill would lose."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELIABILITY = ROOT / "training" / "reliability"


@pytest.fixture
def kill_commands(monkeypatch):
    monkeypatch.syspath_prepend(RELIABILITY)
    import kill_commands

    return kill_commands


@pytest.fixture
def votes(kill_commands, tmp_path, monkeypatch):
    """A folder where all was voted, as a run that nobody killed leaves it, and how to make another."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        kill_commands.answers(folder)
        assert kill_commands.vote(["a.json", "b.json"]) == 0
        return folder

    return make


def test_votes_that_are_all_there_once_are_no_difference(kill_commands, votes):
    assert kill_commands.votes_differ(votes("whole"), votes("tried")) == []


def test_a_lost_vote_is_seen_also_where_it_was_given_again(kill_commands, votes):
    whole, tried = votes("whole"), votes("tried")
    with open(tried / "acknowledged.txt", "a") as file:
        file.write("ann 3\n")
    assert kill_commands.votes_differ(whole, tried) == ["lost: ann 3"]
    (tried / "votes.sqlite").write_bytes((whole / "votes.sqlite").read_bytes())
    with kill_commands.closing(kill_commands.sqlite3.connect(tried / "votes.sqlite")) as connection, connection:
        connection.execute("DELETE FROM votes WHERE rater = 'bob' AND item = 5")
    assert "lost: bob 5" in kill_commands.votes_differ(whole, tried)


@pytest.mark.parametrize(
    "left", ["out/.x.json.partial-1", ".out.partial.lock", "temporary/hf-gpt-scratch-1", ".model.1.lock"]
)
def test_what_a_killed_run_left_is_a_difference(kill_commands, tmp_path, left):
    for name in ("whole", "tried"):
        (tmp_path / name / "out").mkdir(parents=True)
        (tmp_path / name / "temporary").mkdir()
        (tmp_path / name / "out" / "x.json").write_text("{}")
    assert kill_commands.differs(tmp_path / "whole", tmp_path / "tried") == []
    (tmp_path / "tried" / left).touch()
    assert f"{left} is left" in kill_commands.differs(tmp_path / "whole", tmp_path / "tried")


def test_a_date_is_all_that_two_evaluations_differ_in(kill_commands, tmp_path):
    for number, name in enumerate(("whole", "tried", "other")):
        (tmp_path / name / "evaluated").mkdir(parents=True)
        values = {"date": number, "acc": number // 2}
        (tmp_path / name / "evaluated" / "harness.json").write_text(json.dumps(values))
    assert kill_commands.evaluations_differ(tmp_path / "whole", tmp_path / "tried") == []
    assert kill_commands.evaluations_differ(tmp_path / "whole", tmp_path / "other") == ["harness.json: acc"]
