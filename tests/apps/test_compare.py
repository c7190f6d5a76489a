"""The comparison page over Gradio's own client, and its results."""

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.apps import page
from hf_gpt_scratch.evaluation.preference import Votes
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import read_card
from support.commands import run_command
from support.in_browser import MARKUP


@pytest.fixture
def client(server):
    client = pytest.importorskip("gradio_client").Client(server[0], verbose=False)
    yield client
    client.close()


def ticket(rater, item):
    return json.dumps({"rater": rater, "item": item})


def shown(update) -> str:
    """The text of all that an answer of the server puts on the page."""
    return json.dumps(update)


def test_a_vote_over_the_wire_is_kept_and_the_next_pair_comes(client, server):
    votes = server[1]
    assert "1 of 4" in shown(client.predict("Wire", api_name="/begin"))
    assert "2 of 4" in shown(client.predict(ticket("wire", 0), "left", api_name="/vote"))
    assert "2 of 4" in shown(client.predict(ticket("wire", 0), "right", api_name="/vote"))  # a second click
    kept = [vote for vote in votes.all() if vote[0] == "wire"]
    left = "A" if votes.a_is_left("wire", 0) else "B"
    assert kept == [("wire", 0, left, left)]
    assert "1 of 4" in shown(client.predict(ticket("wire", 1), api_name="/undo"))
    assert not [vote for vote in votes.all() if vote[0] == "wire"]


@pytest.mark.parametrize(
    "endpoint, values, message",
    [
        ("/begin", [" "], "Type your name first"),
        ("/vote", ["", "left"], "Type your name first"),
        ("/vote", ["[1]", "left"], "Type your name first"),
        ("/vote", [ticket("wire", "one"), "left"], "Type your name first"),
        ("/vote", [ticket("wire", 0), "up"], "A vote is one of left, right, tie, both_bad"),
    ],
)
def test_requests_that_no_page_sends_are_refused_in_a_sentence(client, server, endpoint, values, message):
    before = server[1].all()
    with pytest.raises(Exception, match=message):
        client.predict(*values, api_name=endpoint)
    assert server[1].all() == before


def test_nothing_that_the_page_gets_tells_which_model_is_where(client, server, files):
    """The answers themselves name their model in this test, the rest of what is sent must not."""
    sent = shown(client.predict("Blind", api_name="/begin")) + json.dumps(client.config)
    for secret in (*files, "a.json", "b.json", "a_is_left", '"A"', '"B"'):
        assert secret not in sent


def run(*argv):
    run_command("app", "compare", *argv)


def test_results_are_printed_and_written_with_their_provenance(files, tmp_path, capsys):
    output = tmp_path / "votes.sqlite"
    votes = Votes.open_or_create(output, *files, items=4, seed=7)
    for item in range(4):
        votes.vote("anna", item, "left")
        votes.vote("ben", item, "tie")
    question = {"instruction": f"Question 0? {MARKUP}", "input": ""}
    answers = {f"model_response_{side}": f"{side}: {MARKUP}" for side in "ab"}
    (tmp_path / "judge.json").write_text(json.dumps({"items": [{**question, **answers, "winner": "tie"}]}))
    run(*files, "--output", output, "--results", "--judge", tmp_path / "judge.json", "--seed", 7)
    written = json.loads((tmp_path / "votes.json").read_text())
    wins = sum(votes.a_is_left("anna", item) for item in range(4))
    assert (written["wins_A"], written["wins_B"], written["ties"]) == (wins, 4 - wins, 4)
    assert written["win_rate"] == (wins + 2) / 8 != 0.5
    card = read_card(tmp_path / "results" / "votes.json")
    assert card.metrics["win_rate"].value == written["win_rate"]
    assert card.metrics["win_rate"].interval == written["win_rate_interval"]
    assert [data["source"] for data in card.data] == [Path(file).name for file in files]
    assert card.predictions == "votes.json"
    assert card.seeds == [7] and "8 votes of 2 raters on 4 of 4 questions" in card.protocol
    assert written["judge_agreement"] == 0.5
    assert written["seed"] == 7
    assert set(written["files"]) == {"A", "B", "judge"}
    assert {"versions", "hardware", "definitions"} <= set(written)
    command = written["command"].removeprefix("OMP_NUM_THREADS=1 ")
    assert command.startswith("hf-gpt-scratch app compare ") and command.endswith(" --seed 7")
    printed = capsys.readouterr().out
    assert f"win rate of A       {written['win_rate']:.3f}" in printed
    assert "8 on 4 of 4 questions" in printed
    assert str(tmp_path / "votes.json") in printed


def test_results_without_votes_are_refused_and_nothing_is_written(files, tmp_path):
    output = tmp_path / "votes.sqlite"
    with pytest.raises(InputError, match="There is no file of votes"):
        run(*files, "--output", output, "--results")
    assert not list(tmp_path.iterdir())
    Votes.open_or_create(output, *files, items=4)
    with pytest.raises(InputError, match="no votes yet"):
        run(*files, "--output", output, "--results")
    assert [path.name for path in tmp_path.iterdir()] == ["votes.sqlite"]


def test_results_replace_their_own_and_no_other_file(files, tmp_path):
    a, b = (shutil.copy(file, tmp_path) for file in files)
    card = tmp_path / "results" / "spam.json"
    card.parent.mkdir()
    card.write_text('{"task": "SMS spam classification"}')
    judge = tmp_path / "judge.json"
    judge.write_text('{"task": "comparison", "items": []}')
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    for name, kept in {"a": a, "judge": judge, "spam": card}.items():
        output = tmp_path / f"{name}.sqlite"
        Votes.open_or_create(output, a, b, items=4).vote("anna", 0, "left")
        for more in (["--results", "--judge", judge], []):
            with pytest.raises(InputError, match=f"The results would replace {kept}, which holds something else"):
                run(a, b, "--output", output, *more)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == texts

    output = tmp_path / "votes.sqlite"
    votes = Votes.open_or_create(output, a, b, items=4)
    for item in range(2):
        votes.vote("anna", item, "tie")
        run(a, b, "--output", output, "--results")
        assert json.loads((tmp_path / "votes.json").read_text())["ties"] == item + 1
    with pytest.raises(InputError, match="has votes on other files than .*b.json and .*a.json, in this order"):
        run(b, a, "--output", output, "--results")


def test_declaring_the_arguments_does_not_import_what_needs_scipy():
    code = (
        "import argparse, sys, hf_gpt_scratch_cli; from hf_gpt_scratch.commands import app_compare;"
        " app_compare.add_arguments(argparse.ArgumentParser());"
        " print({'hf_gpt_scratch.evaluation.preference', 'hf_gpt_scratch.evaluation.intervals', 'hf_gpt_scratch.apps'}"
        " & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_options_that_contradict_each_other_are_refused(files, tmp_path):
    with pytest.raises(UsageError, match="cannot end in .json"):
        run(*files, "--output", tmp_path / "votes.json")
    with pytest.raises(UsageError, match="--judge needs --results"):
        run(*files, "--output", tmp_path / "votes.sqlite", "--judge", "judge.json")
    with pytest.raises(SystemExit):
        run(*files, "--port", "0")
    assert not list(tmp_path.iterdir())


def test_other_questions_leave_the_votes_as_they_are(files, tmp_path):
    output = tmp_path / "votes.sqlite"
    Votes.open_or_create(output, *files, items=4).vote("anna", 0, "tie")
    before = output.read_bytes()
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"instruction": "Why?", "input": "", "model_response": "So."}]))
    with pytest.raises(InputError, match="compare them on the same ones|answer different questions"):
        run(files[0], other, "--output", output)
    assert output.read_bytes() == before


def test_an_address_that_cannot_be_listened_on_is_one_sentence(files, tmp_path):
    pytest.importorskip("gradio")
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1 \(.*\); choose another host or port"):
        run(*files, "--output", tmp_path / "votes.sqlite", "--host", "192.0.2.1")  # reserved for documentation


def test_the_page_asks_for_the_extra(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(page, "gradio", inspect.unwrap(page.gradio))  # which remembers the package
    with pytest.raises(InputError, match=r"pip install -c constraints.txt -e '\.\[apps\]'"):
        run(*files, "--output", tmp_path / "votes.sqlite")
