"""A file of votes holds the tables that this package makes, and nothing that could change votes."""

import sqlite3
from contextlib import closing

import pytest

from hf_gpt_scratch.evaluation import preference
from hf_gpt_scratch.evaluation.preference import Votes
from hf_gpt_scratch.utils.errors import InputError


@pytest.fixture
def votes(two_files, tmp_path):
    return Votes.open_or_create(tmp_path / "votes.sqlite", *two_files, items=6)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER lies AFTER INSERT ON votes BEGIN DELETE FROM votes; END",
        "CREATE VIEW lies AS SELECT * FROM votes",
        "CREATE/**/VIRTUAL TABLE lies USING fts3(text)",
        "CREATE TABLE lies (text)",
        "CREATE INDEX lies ON votes (abs(item))",
    ],
)
def test_a_file_of_votes_brings_no_sql_of_its_own(votes, two_files, statement):
    with closing(sqlite3.connect(votes.path)) as connection, connection:
        connection.execute(statement)
    with pytest.raises(InputError, match="its (trigger|view|table|index) lies is none that this package makes"):
        Votes.open_or_create(votes.path, *two_files, items=6)


@pytest.mark.parametrize(
    ("ours", "theirs", "named"),
    [
        ("UNIQUE (rater, item)", "UNIQUE (rater, item), UNIQUE (time) ON CONFLICT REPLACE", "table votes"),
        ("rater TEXT NOT NULL", "rater TEXT NOT NULL COLLATE NOCASE", "table votes"),
        ("items INTEGER NOT NULL", "items INTEGER NOT NULL DEFAULT 0", "table comparison"),
    ],
)
def test_tables_of_votes_have_no_rules_but_ours(two_files, tmp_path, monkeypatch, ours, theirs, named):
    assert ours in preference.SCHEMA
    with monkeypatch.context() as changed:
        changed.setattr(preference, "SCHEMA", preference.SCHEMA.replace(ours, theirs))
        votes = Votes.open_or_create(tmp_path / "votes.sqlite", *two_files, items=6)
    with pytest.raises(InputError, match=f"its {named} is none that this package makes"):
        Votes(votes.path, *two_files)


def test_a_trigger_under_one_of_sqlites_own_names_is_seen(votes, two_files):
    sql = "CREATE TRIGGER sqlite_lies AFTER INSERT ON votes BEGIN DELETE FROM votes; END"
    with closing(sqlite3.connect(votes.path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        row = ("trigger", "sqlite_lies", "votes", 0, sql)
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
    with pytest.raises(InputError, match="its trigger sqlite_lies is none that"):
        Votes(votes.path, *two_files)


def test_files_of_votes_of_the_first_version_and_with_sqlites_own_tables_are_opened(votes, two_files, tmp_path):
    """It ran the statements as one script."""
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as old, closing(sqlite3.connect(votes.path)) as new, old:
        old.executescript(preference.SCHEMA)
        row = new.execute("SELECT * FROM comparison").fetchone()
        old.execute("INSERT INTO comparison VALUES (?, ?, ?, ?)", row)
    for statement in ("VACUUM", "ANALYZE"):
        with closing(sqlite3.connect(votes.path)) as connection:
            connection.execute(statement)
    for path in (tmp_path / "old.sqlite", votes.path):
        assert Votes.open_or_create(path, *two_files, items=6).vote("anna", 0, "tie")
