"""A judgement that stops amid its work is taken up by the same command, and asks nothing twice."""

import _thread
import json
import signal
import threading
import time
from pathlib import Path

import pytest

from hf_gpt_scratch.evaluation.judge import endpoint as judges
from hf_gpt_scratch.utils.files import claim
from support.judge_server import (
    HTML,
    SCORES,
    Reply,
    chat,
    endpoint,
    error,
    judge_server,
    left_over,
    number_in_response,
    one_sentence,
    question,
    responses_in,
    result_of,
    rows,
    slowly,
    write,
)

pytestmark = pytest.mark.usefixtures("without_keys")


def test_failures_among_answers_are_counted_and_asked_for_again(run, responses):
    def behave(body):
        return error(500, "crashed") if "worth 0" in question(body) else number_in_response(body)

    with judge_server(behave) as server:
        status, out, err = run(responses, *endpoint(server, "--retries", 0))
        assert status == 1
        sentence = one_sentence(err)
        assert "1 of 6 could not be judged" in sentence and "HTTP status 500 (crashed)" in sentence
        result = result_of(responses)
        assert [result[name] for name in ("n_scored", "n_unparsed", "n_failed")] == [5, 0, 1]
        assert result["items"][3]["score"] is None and "500" in result["items"][3]["error"]
        server.behave = number_in_response
        asked = len(server.requests)
        assert run(responses, *endpoint(server, "--retries", 0))[0] == 0
        assert [responses_in(body) for body in server.requests[asked:]] == [["worth 0"]]
    assert [item["score"] for item in result_of(responses)["items"]] == SCORES
    assert left_over(responses) == []


@pytest.mark.parametrize("after", [error(500, "gone"), Reply(b"", 0), HTML])
def test_a_run_whose_server_stops_answering_goes_on_later(run, tmp_path, after):
    responses = write(tmp_path / "responses.json", rows([f"worth {score}" for score in range(20)]))
    answered = []

    def behave(body):
        if len(answered) == 4:
            return after
        answered.append(responses_in(body))
        return number_in_response(body)

    options = ("--workers", 1, "--retries", 1)
    with judge_server(behave) as server:
        status, _, err = run(responses, *endpoint(server, *options))
        assert status == 1 and "4 of 20 answers are saved" in one_sentence(err)
        assert not responses.with_name("judge.json").exists()
        assert len(server.requests) <= 4 + 2 * judges.PATIENCE  # it did not try all others in vain
        server.behave, asked = number_in_response, len(server.requests)
        status, _, err = run(responses, *endpoint(server, *options))
        assert status == 0 and "4 of 20 answers are saved already" in err
        assert len(server.requests) == asked + 16
    assert [item["score"] for item in result_of(responses)["items"]] == list(range(20))


def stop_after_4(run, responses, server) -> Path:
    """Has four responses judged, then no more; returns the file that keeps them."""
    served = []

    def behave(body):
        served.append(body)
        return error(404, "gone") if len(served) > 4 else number_in_response(body)

    server.behave = behave
    assert run(responses, *endpoint(server, "--workers", 1))[0] == 1
    server.behave = number_in_response
    server.requests.clear()
    [name] = left_over(responses)
    return responses.with_name(name)


def test_another_judge_or_other_texts_are_not_mixed_in(run, responses, tmp_path):
    with judge_server(number_in_response) as server:
        kept = stop_after_4(run, responses, server)
        for other in (("--model", "qwen3"), ("--model", "llama3", "--seed", 1)):
            server.behave = lambda body: chat("50")
            output = tmp_path / "others" / f"{other[-1]}.json"
            assert run(responses, "--base-url", server.url, *other, "--output", output)[0] == 0
            assert len(server.requests) == 6 and json.loads(output.read_text())["mean"] == 50
            server.requests.clear()
        assert left_over(responses) == [kept.name, "others"]  # the first judge's work is still there
        server.behave = number_in_response
        write(responses, rows(["worth 1", "worth 2", *(f"worth {score}" for score in SCORES[2:])]))
        assert run(responses, *endpoint(server))[0] == 0
    assert sorted(responses_in(body)[0] for body in server.requests) == ["worth 1", "worth 2", "worth 55", "worth 73"]
    assert [item["score"] for item in result_of(responses)["items"]] == [1, 2, *SCORES[2:]]


def test_a_line_cut_by_a_crash_costs_only_itself(run, responses):
    with judge_server(number_in_response) as server:
        kept = stop_after_4(run, responses, server)
        huge = b'{"key": "", "text": "", "value": 1' + 400 * b"0" + b', "details": {}}\n'
        lines = [json.loads(line) for line in kept.read_text().splitlines() if line]
        wrong = (
            {"probability_mass": 0.9},
            {"changed": 5},
            {"changed": [{}]},
            {"probability_mass": "x", "truncated": 1},
        )
        spoiled = "".join(json.dumps({**lines[-1], "details": details}) + "\n" for details in wrong)
        kept.write_bytes(huge + b"null\n3\n{}" + kept.read_bytes()[:-20] + b"\n" + spoiled.encode())
        server.behave = lambda body: error(404, "gone")
        assert "3 of 6" in run(responses, *endpoint(server, "--workers", 1))[2]
        server.behave = number_in_response
        server.requests.clear()
        assert run(responses, *endpoint(server))[0] == 0
    assert len(server.requests) == 3
    assert [item["score"] for item in result_of(responses)["items"]] == SCORES


def test_ctrl_c_ends_at_once_and_keeps_the_answers(run, responses):
    never = threading.Event()
    # A test run in the background may have been told to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def behave(body):
        if len(server.requests) <= 3:
            return number_in_response(body)
        if len(server.requests) == 4:
            time.sleep(0.3)  # until the answers before it are in
            _thread.interrupt_main()
        never.wait(20)
        return number_in_response(body)

    with judge_server(behave) as server:
        start = time.monotonic()
        status, _, err = run(responses, *endpoint(server, "--workers", 2))
        assert status == 130 and err.splitlines()[-1].startswith("Interrupted; ") and "answers are saved" in err
        assert time.monotonic() - start < 15
        never.set()
        kept = int(err.split(" of 6 answers are saved")[0].split()[-1])
        assert kept >= 2
        server.behave, asked = number_in_response, len(server.requests)
        assert run(responses, *endpoint(server))[0] == 0
        assert len(server.requests) == asked + 6 - kept
    assert [item["score"] for item in result_of(responses)["items"]] == SCORES


def test_requests_run_side_by_side(run, tmp_path):
    responses = write(tmp_path / "responses.json", rows([f"worth {score}" for score in range(13)]))
    with judge_server(slowly(number_in_response, 0.1)) as server:
        assert run(responses, *endpoint(server, "--workers", 3))[0] == 0
    assert server.most_at_once == 3
    assert [item["score"] for item in result_of(responses)["items"]] == list(range(13))


def test_half_a_character_in_an_answer_costs_nothing(run, responses):
    def behave(body):
        return chat("\ud83d 5\nScore: 5") if "worth 73" in question(body) else number_in_response(body)

    with judge_server(behave) as server:
        kept = stop_after_4(run, responses, server)
        kept.write_text(kept.read_text().replace('{\\"score\\": 80}', "\\ud83d 80"))  # as it was once kept
        server.behave = behave
        assert run(responses, *endpoint(server))[0] == 0
    answers = [item["answer"] for item in result_of(responses)["items"]]
    assert answers[0] == "\ufffd 80"
    assert result_of(responses)["n_scored"] == 6


def test_killed_when_all_was_answered_it_ends_as_if_never_killed(run, responses, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with judge_server(number_in_response) as server:
        with monkeypatch.context() as patch:
            patch.setattr("hf_gpt_scratch.evaluation.judge.scoring.write", killed)
            assert run(responses, *endpoint(server))[0] == 130
        asked = len(server.requests)
        assert run(responses, *endpoint(server))[0] == 0
        resumed = result_of(responses)
        assert len(server.requests) == asked == 6 and left_over(responses) == []
        assert run(responses, *endpoint(server))[0] == 0  # anew
    assert len(server.requests) == 12 and resumed == result_of(responses)
    assert resumed["judge"]["takes_schema"] is True


def test_two_commands_do_not_ask_for_the_same_answers(run, responses):
    with judge_server(number_in_response) as server:
        kept = stop_after_4(run, responses, server)
        asked = len(server.requests)
        with claim(kept):
            status, _, err = run(responses, *endpoint(server))
        assert status == 1 and "Another command is writing" in one_sentence(err)
        assert len(server.requests) == asked
