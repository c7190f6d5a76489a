"""The tables of results in the README and docs/results.md are those of the result cards in training/results."""

import re
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.hub.secrets import secrets_in
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.result_card import Metric, ResultCard, read_card

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "training"))
import results  # noqa: E402


@pytest.mark.parametrize("page", results.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_number_in_a_table_was_typed_by_hand(page):
    text = page.read_text(encoding="utf-8")
    assert results.tables(text) == text


def test_there_are_tables_and_each_card_is_in_one():
    pages = "".join(page.read_text(encoding="utf-8") for page in results.PAGES)
    named = {name for names in re.findall(r"<!-- results: ([^|]+) \|", pages) for name in names.split()}
    assert named == {path.stem for path in results.CARDS.glob("*.*.json")} and len(named) >= 5
    assert pages.count("<!-- results:") == len(results.TABLE.findall(pages)) == pages.count("<!-- end of results -->")


@pytest.mark.parametrize("path", sorted(results.CARDS.glob("*.*.json")), ids=lambda path: path.stem)
def test_a_card_is_sound_and_tells_nothing_of_the_machine(path):
    card = read_card(path)
    assert re.match("(OMP_NUM_THREADS=1 )?(python|hf-gpt-scratch) ", card.command) and ".." not in card.command
    assert secrets_in(path.name, path) == []


@pytest.fixture
def card(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(results, "CARDS", tmp_path / "cards")
    run = tmp_path / "run"
    ResultCard(
        task="a task",
        protocol="of /home/someone/x.txt",
        data=[{"source": "/home/someone/x.txt", "sha256": "ab" * 32}],
        metrics={"f1": Metric(0.95), "ece": Metric(0.01, higher_is_better=False)},
        baselines={"linear": {"f1": Metric(0.96)}},
        command="python a.py --data_file ../data/x.txt",
        environment={},
    ).write(run, "spam")
    results.take_cards(run)
    return results.CARDS / "run.spam.json"


def test_a_card_is_taken_without_the_folders_of_the_machine(card):
    taken = read_card(card)
    assert taken.command == "python a.py --data_file x.txt"
    assert (taken.protocol, taken.data[0]["source"]) == ("of x.txt", "x.txt")


def test_a_table_is_written_anew(card):
    place = "before\n<!-- results: run.spam | GPT | f1 -->\nold\n<!-- end of results -->\nafter"
    text = results.tables(place)
    assert "| GPT | 0.9500 |\n| linear | **0.9600** |" in text and "old" not in text and "ece" not in text
    assert results.tables(text) == text and text.startswith("before") and text.endswith("after")


def test_what_is_not_there_is_named(card):
    with pytest.raises(InputError, match="has accuracy; they have f1, ece"):
        results.tables("<!-- results: run.spam | GPT | accuracy -->\n<!-- end of results -->")
    with pytest.raises(InputError, match="other.spam.json"):
        results.tables("<!-- results: other.spam | GPT -->\n<!-- end of results -->")
