"""Two files of answers compared by the judge's command."""

import json

import pytest
from matplotlib.figure import Figure
from PIL import Image

from hf_gpt_scratch.evaluation.intervals import wilson
from hf_gpt_scratch.utils.provenance import sha256
from hf_gpt_scratch.utils.result_card import Metric, read_card
from support.judge_server import (
    chat,
    endpoint,
    error,
    judge_server,
    longer,
    number_in_response,
    one_sentence,
    question,
    responses_in,
    result_of,
    rows,
    write,
)

pytestmark = pytest.mark.usefixtures("without_keys")


@pytest.fixture
def pictures(monkeypatch) -> list[list[float]]:
    """The heights of the bars of each picture that is drawn."""
    drawn, save = [], Figure.savefig

    def savefig(figure, *args, **options):
        drawn.append([patch.get_height() for patch in figure.axes[0].patches])
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return drawn


def test_pictures_hold_the_counts(run, responses, two_files, pictures):
    with judge_server(number_in_response) as server:
        assert run(responses, *endpoint(server))[0] == 0
        server.behave = longer
        assert run(*two_files, *endpoint(server, "--output", responses.with_name("pairs.json")))[0] == 0
    assert pictures == [[1, 1, 0, 0, 0, 1, 0, 1, 1, 1], [3, 1, 1]]


def test_comparison(run, two_files):
    with judge_server(longer) as server:
        status, out, err = run(*two_files, *endpoint(server))
    assert (status, err) == (0, "")
    result = result_of(two_files[0])
    assert [item["score"] for item in result["items"]] == [1, 1, 0, 0.5, 1]
    assert (result["wins"], result["ties"], result["losses"]) == (3, 1, 1)
    assert result["win_rate"] == 0.7 and result["consistency"] == 1 and result["first_position_rate"] == 0.5
    assert result["interval"] == wilson(3.5, 5)
    card = read_card(two_files[0].parent / "results" / "judge.json")
    assert card.metrics["win_rate"] == Metric(0.7, wilson(3.5, 5)) and card.predictions == "a.json"
    assert len(card.data) == 2 and card.data[1]["sha256"] == sha256(two_files[1])  # other models beat another B
    assert [entry["sha256"] for entry in result["data"]] == [sha256(path) for path in two_files]
    assert len(server.requests) == 10  # both orders
    shown = {tuple(responses_in(body)) for body in server.requests}
    assert {("long answer", "short"), ("short", "long answer")} <= shown
    first = result["items"][0]
    assert (first["model_response_a"], first["model_response_b"]) == ("long answer", "short")
    assert [json.loads(order["answer"])["winner"] for order in first["orders"]] == ["A", "B"]
    assert result["worst"][0]["model_response_a"] == "x"
    assert "Win rate of A: 70.0% (" in out and "Wins in both orders: A 3, B 1, neither 1." in out
    with Image.open(two_files[0].with_name("judge.png")) as picture:
        assert picture.format == "PNG"


def test_a_judge_that_always_takes_the_first_decides_nothing(run, two_files):
    with judge_server(lambda body: chat("A")) as server:
        assert run(*two_files, *endpoint(server))[0] == 0
    result = result_of(two_files[0])
    assert (result["wins"], result["ties"], result["losses"], result["win_rate"]) == (0, 5, 0, 0.5)
    assert result["consistency"] == 0 and result["first_position_rate"] == 1


def test_a_pair_needs_both_orders(run, two_files):
    def behave(body):
        if "longest" in question(body):
            return chat("I like both")
        return error(500, "crashed") if responses_in(body) == ["no", "yes indeed"] else longer(body)

    with judge_server(behave) as server:
        status, out, err = run(*two_files, *endpoint(server, "--retries", 0))
    result = result_of(two_files[0])
    assert status == 1 and "1 of 5 could not be judged" in one_sentence(err)
    assert [result[name] for name in ("n", "n_scored", "n_unparsed", "n_failed")] == [5, 3, 1, 1]
    assert result["items"][2]["orders"][0]["answer"] == "I like both"
    assert result["items"][4]["orders"][0]["score"] == 1 and result["items"][4]["score"] is None


def test_files_of_different_questions_are_not_compared(run, two_files, tmp_path):
    a, b = two_files
    others = json.loads(b.read_text())
    others[3]["instruction"] = "Something else."
    with judge_server(longer) as server:
        status, _, err = run(a, write(b, others), *endpoint(server))
        assert status == 1 and "answer different questions: row 4 of the first" in one_sentence(err)
        status, _, err = run(a, write(b, rows(["short", "long"])), *endpoint(server))
        assert status == 1 and f"{a} answers 5 questions and {b} 2" in one_sentence(err)
    assert server.requests == []


def test_the_result_of_another_judge_stays(run, two_files):
    a, b = two_files
    with judge_server(lambda body: chat("50")) as server:
        assert run(a, *endpoint(server))[0] == 0
        before = a.with_name("judge.json").read_bytes()
        server.requests.clear()
        for args, difference in (
            ((a, "--base-url", server.url, "--model", "tiny"), "different model"),
            ((a, *endpoint(server, "--seed", 1)), "different seed"),
            ((a, b, *endpoint(server)), "different task"),
        ):
            status, _, err = run(*args)
            assert status == 1 and difference in one_sentence(err) and "choose another --output" in err
        assert server.requests == [] and a.with_name("judge.json").read_bytes() == before
        assert run(a, *endpoint(server, "--max-tokens", 99))[0] == 0
