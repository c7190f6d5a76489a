"""The judge's command against servers that behave and misbehave, and with models of its own."""

import _thread
import json
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from judge_server import (
    Reply,
    chat,
    error,
    judge_server,
    number_in_response,
    question,
    responses_in,
    result_of,
    rows,
    slowly,
    write,
)
from matplotlib.figure import Figure
from PIL import Image

from hf_gpt_scratch.evaluation import judges
from hf_gpt_scratch.evaluation.card import Metric, read_card
from hf_gpt_scratch.evaluation.intervals import wilson
from hf_gpt_scratch.evaluation.report import read_groups
from hf_gpt_scratch.provenance import sha256
from hf_gpt_scratch.saving import write_json

SCORES = [80, 10, 100, 0, 55, 73]
HTML = Reply(b"<!DOCTYPE html><html><body>Welcome!</body></html>", content_type="text/html")


@pytest.fixture(autouse=True)
def quick_and_without_keys(monkeypatch):
    monkeypatch.setattr(judges, "BACK_OFF", 0.01)
    for name in ("OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def responses(tmp_path) -> Path:
    return write(tmp_path / "responses.json", rows([f"worth {score}" for score in SCORES]))


def endpoint(server, *options) -> tuple:
    return ("--base-url", server.url, "--model", "llama3", *options)


def left_over(path: Path) -> list[str]:
    """The files beside the responses that are neither the result nor its picture."""
    return sorted(
        p.name for p in path.parent.iterdir() if p.name not in ("judge.json", "judge.png", "results", path.name)
    )


def one_sentence(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "Traceback" not in stderr
    assert lines[0].endswith(".")
    return lines[0]


def test_scores_and_all_that_is_said_of_them(run, responses):
    with judge_server(number_in_response) as server:
        status, out, err = run(responses, *endpoint(server, "--seed", 7))
    assert (status, err) == (0, "")
    result = result_of(responses)
    assert [result[name] for name in ("n", "n_scored", "n_unparsed", "n_failed")] == [6, 6, 0, 0]
    assert result["mean"] == sum(SCORES) / 6
    low, high = result["interval"]
    assert 0 < low < result["mean"] < high < 100
    assert result["histogram"] == {"edges": list(range(0, 101, 10)), "counts": [1, 1, 0, 0, 0, 1, 0, 1, 1, 1]}
    assert [item["score"] for item in result["items"]] == SCORES  # in the file's order, whatever came first
    assert [json.loads(item["answer"])["score"] for item in result["items"]] == SCORES
    assert [item["score"] for item in result["worst"]] == sorted(SCORES)
    assert result["worst"][0]["model_response"] == "worth 0" and result["worst"][0]["output"] == "reference 3"
    described = {"kind": "endpoint", "model": "llama3", "base_url": server.url, "temperature": 0.0, "seed": 7}
    assert described.items() <= result["judge"].items()
    assert result["data"] == [{"file": str(responses), "sha256": sha256(responses)}]
    assert "{response}" in result["prompt"] and result["versions"]["torch"] and result["hardware"]["cores"]
    assert result["command"].startswith(f"hf-gpt-scratch judge {responses} --base-url {server.url}")
    assert result["command"].endswith("--model llama3 --seed 7")
    assert f"Mean score {sum(SCORES) / 6:.1f}" in out and "worth 0" in out
    with Image.open(responses.with_name("judge.png")) as picture:
        assert picture.format == "PNG" and min(picture.size) > 200
    assert left_over(responses) == []


def test_what_the_endpoint_is_asked(run, responses):
    with judge_server(number_in_response) as server:
        assert run(responses, *endpoint(server, "--seed", 7, "--max-tokens", 99))[0] == 0
    assert set(server.paths) == {"/v1/chat/completions"} and len(server.requests) == 6
    first = server.requests[0]
    assert (first["model"], first["temperature"], first["seed"], first["max_tokens"]) == ("llama3", 0, 7, 99)
    form = first["response_format"]  # as OpenAI's interface has it, which Ollama, vLLM and llama.cpp know
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"]["properties"]["score"] == {"type": "integer", "minimum": 0, "maximum": 100}
    for part in ("Name the number 0.", "in words 0", "reference 0", "worth 80", "0 (", "100 ("):
        assert part in question(first)


def test_worst_are_ten(run, tmp_path):
    path = write(tmp_path / "responses.json", rows([f"worth {score}" for score in range(30, 50)]))
    with judge_server(number_in_response) as server:
        assert run(path, *endpoint(server))[0] == 0
    assert [item["score"] for item in result_of(path)["worst"]] == list(range(30, 40))


@pytest.mark.parametrize("status", [400, 404, 422, 500, 501])
def test_a_server_that_takes_no_schema_is_asked_without(run, responses, status):
    def behave(body):
        if "response_format" in body:
            return error(status, "response_format is not supported")
        return chat(f"Score: {responses_in(body)[0].split()[-1]}/100")

    with judge_server(behave) as server:
        assert run(responses, *endpoint(server, "--retries", 0))[0] == 0
    result = result_of(responses)
    assert result["mean"] == sum(SCORES) / 6
    assert result["judge"]["takes_schema"] is False
    assert len(server.requests) == 7  # the schema was tried once


def test_a_server_that_ignores_the_schema_is_not_said_to_take_it(run, responses):
    with judge_server(lambda body: chat("Score: 50")) as server:
        assert run(responses, *endpoint(server))[0] == 0
        assert result_of(responses)["judge"]["takes_schema"] is None
        server.behave = number_in_response
        assert run(responses, *endpoint(server))[0] == 0
        assert result_of(responses)["judge"]["takes_schema"] is True


def test_keys_go_where_they_belong_and_into_no_file(run, responses, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_theHubsOwn")
    with judge_server(number_in_response) as server:
        assert run(responses, *endpoint(server))[0] == 0
        assert all("authorization" not in headers for headers in server.headers)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret")
        url = server.url.replace("http://", "http://someone:hidden@") + "?key=hushhush"
        output = tmp_path / "other.json"
        assert run(responses, "--base-url", url, "--model", "m", "--output", output)[0] == 0
        long = "x" * 285  # the key is at the place where a message is cut
        server.behave = lambda body: error(401, f"wrong key sk-verysecret {long} sk-verysecret")
        err = run(responses, "--base-url", server.url, "--model", "llama3")[2]
        assert "wrong key ***" in err and "sk-" not in err
    assert server.headers[-1]["authorization"] == "Bearer sk-verysecret"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.*"))
    for secret in (b"sk-verysecret", b"hidden", b"hushhush", b"hf_theHubsOwn"):
        assert secret not in written
    assert json.loads(output.read_text())["judge"]["base_url"] == server.url
    for url, key in (("https://router.huggingface.co/v1", "hf_theHubsOwn"), ("https://huggingface.co.x/v1", None)):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        assert judges.EndpointJudge(url, "m").key == key


@pytest.mark.parametrize("key", ["sk-very secret", "sk-very\nsecret", "sk-verysécret", "sk-very\x7fsecret"])
def test_a_key_that_cannot_be_one_is_refused_and_not_told(run, responses, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with judge_server(number_in_response) as server:
        status, out, err = run(responses, *endpoint(server))
        assert status == 2 and "OPENAI_API_KEY" in one_sentence(err) and "sk-" not in out + err
        assert server.requests == []
        monkeypatch.setenv("OPENAI_API_KEY", " sk-verysecret\n")  # as a file of one line has it
        assert run(responses, *endpoint(server))[0] == 0
    assert server.headers[-1]["authorization"] == "Bearer sk-verysecret"


# The last of the requests to what answers with a status is the one without the schema.
NEVER_WORKS = {
    "500": (lambda body: error(500, "out of memory"), 6, "HTTP status 500 (out of memory)"),
    "overloaded": (lambda body: error(503, "busy", Retry_After="0"), 6, "HTTP status 503 (busy)"),
    "too many": (lambda body: error(429, "slow down"), 5, "HTTP status 429 (slow down)"),
    "HTML": (lambda body: HTML, 1, "no JSON object, so it is no OpenAI-compatible API; check --base-url"),
    "HTML 502": (lambda body: Reply(HTML.body, 502, "text/html"), 6, "HTTP status 502"),
    "no such model": (lambda body: error(404, 'model "llama3" not found'), 2, "check --model and --base-url"),
    "no key": (lambda body: error(401, "no key"), 1, "OPENAI_API_KEY"),
    "a JSON list": (lambda body: Reply(b"[1, 2]"), 1, "no JSON"),
    "an error that is a list": (lambda body: Reply(b"[1]", 500), 6, "HTTP status 500"),
    "a list in a list in a...": (lambda body: Reply(b"[" * 100_000), 1, "no JSON"),
    "an error that is one": (lambda body: Reply(b"[" * 100_000, 500), 6, "HTTP status 500"),
    "no choices": (lambda body: Reply(b'{"choices": []}'), 1, "JSON without choices"),
    "a broken connection": (lambda body: Reply(b"", 0), 5, "broke off the connection"),
}


@pytest.mark.parametrize(("behave", "requests", "sentence"), NEVER_WORKS.values(), ids=NEVER_WORKS)
def test_an_endpoint_that_never_works_ends_the_run(run, responses, behave, requests, sentence):
    with judge_server(behave) as server:
        status, out, err = run(responses, *endpoint(server))
    assert status == 1 and sentence in one_sentence(err) and server.url in err
    assert len(server.requests) == requests  # tried again where that may help, and no other response sent
    assert left_over(responses) == [] and not responses.with_name("judge.json").exists()


def test_an_endpoint_that_is_down(run, responses):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    status, _, err = run(responses, "--base-url", f"http://127.0.0.1:{port}/v1", "--model", "llama3")
    assert status == 1 and "cannot be reached" in one_sentence(err) and "refused" in err
    assert time.monotonic() - start < 5
    assert left_over(responses) == []


def test_an_endpoint_that_is_slow(run, responses):
    with judge_server(slowly(number_in_response, 1.0)) as server:
        status, _, err = run(responses, *endpoint(server, "--timeout", 0.2))
        assert status == 1
        assert "did not answer within 0.2 seconds; raise --timeout or lower --workers" in one_sentence(err)
        assert len(server.requests) == 2
        assert run(responses, *endpoint(server, "--timeout", 5, "--workers", 6))[0] == 0
    assert result_of(responses)["n_scored"] == 6


def test_an_endpoint_that_trickles(run, responses):
    with judge_server(lambda body: Reply(b" " * 40, pause=0.1)) as server:
        start = time.monotonic()
        status, _, err = run(responses, *endpoint(server, "--timeout", 0.5))
    assert status == 1 and "did not answer within 0.5 seconds" in one_sentence(err)
    assert time.monotonic() - start < 10 and len(server.requests) == 2


def test_a_host_that_cannot_be_connected_to(run, responses, monkeypatch):
    monkeypatch.setattr(judges, "CONNECTING", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        port = full.getsockname()[1]
        for _ in range(4):  # nobody accepts them, so further ones are not answered
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        start = time.monotonic()
        status, _, err = run(responses, "--base-url", f"http://127.0.0.1:{port}/v1", "--model", "llama3")
    assert status == 1 and "cannot be reached" in one_sentence(err) and "check --base-url" in err
    assert time.monotonic() - start < 10


def test_what_passes_is_tried_again(run, responses):
    failures = iter([error(500, "loading"), error(429, "slow down"), Reply(b"", 0), error(503, "busy")])

    def behave(body):
        return next(failures, None) or number_in_response(body)

    with judge_server(behave) as server:
        assert run(responses, *endpoint(server))[0] == 0
    assert len(server.requests) == 6 + 4
    assert [item["score"] for item in result_of(responses)["items"]] == SCORES


def test_the_wait_doubles_and_is_as_long_as_the_server_says(run, responses, monkeypatch):
    waits = []
    monkeypatch.setattr(judges, "time", SimpleNamespace(sleep=waits.append))
    with judge_server(lambda body: error(503, "busy")) as server:
        run(responses, *endpoint(server, "--retries", 3))
        server.behave = lambda body: error(429, "busy", Retry_After="7")
        run(responses, *endpoint(server, "--retries", 1))
        server.behave = lambda body: error(429, "busy", Retry_After="86400")
        run(responses, *endpoint(server, "--retries", 1))
    assert waits == [0.01, 0.02, 0.04, 7, judges.LONGEST_WAIT]
    monkeypatch.setattr(judges, "BACK_OFF", 1.0)
    with judge_server(lambda body: error(503, "busy")) as server:
        run(responses, *endpoint(server, "--retries", 8))
    assert waits[-8:] == [1, 2, 4, 8, 16, 32, judges.LONGEST_WAIT, judges.LONGEST_WAIT]


def test_answers_that_are_no_score_are_kept_and_counted(run, responses):
    def behave(body):
        return chat("Score: ninety") if "worth 100" in question(body) else number_in_response(body)

    with judge_server(behave) as server:
        status, out, err = run(responses, *endpoint(server))
    result = result_of(responses)
    assert (status, err) == (0, "")
    assert [result[name] for name in ("n", "n_scored", "n_unparsed", "n_failed")] == [6, 5, 1, 0]
    assert result["items"][2]["answer"] == "Score: ninety" and result["items"][2]["score"] is None
    assert result["mean"] == (sum(SCORES) - 100) / 5
    assert "1 unparsed" in out and "'Score: ninety'" in out and "--max-tokens" not in out
    card = read_card(responses.parent / "results" / "judge.json")
    assert card.metrics["unparsed_rate"] == Metric(1 / 6, wilson(1, 6), False)
    assert card.metrics["failed_rate"].value == 0


def test_questions_that_are_refused_do_not_keep_others_from_being_asked(run, tmp_path):
    path = write(tmp_path / "responses.json", rows([f"worth {number}" for number in range(20)]))

    def behave(body):
        refused = 5 <= int(responses_in(body)[0].split()[-1]) < 12
        return error(400, "context length exceeded") if refused else number_in_response(body)

    with judge_server(behave) as server:
        for _ in range(2):
            status, _, err = run(path, *endpoint(server, "--workers", 1))
            assert status == 1 and "7 of 20 could not be judged" in one_sentence(err)
    assert result_of(path)["n_scored"] == 13


def test_a_refusal_with_the_status_of_a_success_is_quoted(run, responses):
    with judge_server(lambda body: Reply(b'{"error": {"message": "model not loaded"}}')) as server:
        status, _, err = run(responses, *endpoint(server))
    assert status == 1 and "refused (model not loaded); check --model" in one_sentence(err)


def test_no_answer_at_all_can_be_told(run, responses):
    card = responses.parent / "results" / "judge.json"
    with judge_server(number_in_response) as server:
        assert run(responses, *endpoint(server))[0] == 0 and card.exists()
        server.behave = lambda body: chat("Score: ninety")
        status, out, err = run(responses, *endpoint(server))
    result = result_of(responses)
    assert status == 1 and "0 scored, 6 unparsed" in out and "take another judge" in one_sentence(err)
    assert result["n_unparsed"] == 6 and result["mean"] is result["interval"] is None
    assert {item["answer"] for item in result["items"]} == {"Score: ninety"}
    assert not card.exists()  # it would be that of another result
    assert left_over(responses) == []


def test_an_answer_cut_off_amid_the_thoughts(run, responses):
    with judge_server(lambda body: chat(None, "length")) as server:
        status, out, err = run(responses, *endpoint(server, "--max-tokens", 9))
        assert status == 1 and "is empty" in out and "6 of 6 such answers were cut off; raise --max-tokens" in out
        assert "raise --max-tokens" in one_sentence(err)
        assert result_of(responses)["items"][0]["finish_reason"] == "length"
        server.behave = number_in_response  # the same judge with more tokens goes over that result
        assert run(responses, *endpoint(server))[0] == 0
    assert result_of(responses)["items"][0]["finish_reason"] == "stop"


def test_an_answer_in_parts(run, responses):
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "50?"}]}, {"type": "text", "text": "Score"}]
    with judge_server(lambda body: chat([*parts, {"type": "text", "text": ": 8"}])) as server:
        assert run(responses, *endpoint(server))[0] == 0
    assert [(item["answer"], item["score"]) for item in result_of(responses)["items"]] == [("Score: 8", 8)] * 6


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


def test_json_that_no_file_can_hold_leaves_no_part_of_it(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_json(tmp_path / "judge.json", ["\ud83d"])
    assert os.listdir(tmp_path) == []


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
        assert status == 1 and "4 of 20 answers are kept" in one_sentence(err)
        assert not responses.with_name("judge.json").exists()
        assert len(server.requests) <= 4 + 2 * judges.PATIENCE  # it did not try all others in vain
        server.behave, asked = number_in_response, len(server.requests)
        status, _, err = run(responses, *endpoint(server, *options))
        assert status == 0 and "4 of 20 answers are there already" in err
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


def test_the_result_of_another_judge_stays(run, two_files):
    a, b = two_files
    with judge_server(lambda body: chat("50")) as server:
        assert run(a, *endpoint(server))[0] == 0
        before = a.with_name("judge.json").read_bytes()
        server.requests.clear()
        for args, difference in (
            ((a, "--base-url", server.url, "--model", "tiny"), "another model"),
            ((a, *endpoint(server, "--seed", 1)), "another seed"),
            ((a, b, *endpoint(server)), "another task"),
        ):
            status, _, err = run(*args)
            assert status == 1 and difference in one_sentence(err) and "choose another --output" in err
        assert server.requests == [] and a.with_name("judge.json").read_bytes() == before
        assert run(a, *endpoint(server, "--max-tokens", 99))[0] == 0


def test_a_line_cut_by_a_crash_costs_only_itself(run, responses):
    with judge_server(number_in_response) as server:
        kept = stop_after_4(run, responses, server)
        kept.write_bytes(b"null\n3\n{}" + kept.read_bytes()[:-20])
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
        assert status == 1 and "Interrupted" in err and "answers are kept" in err
        assert time.monotonic() - start < 15
        never.set()
        kept = int(err.split(" of 6 answers are kept")[0].split()[-1])
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


BAD_FILES = {
    "missing field": ('[{"instruction": "a", "input": "", "output": "b"}]', "row 1: it has no field 'model_response'"),
    "second row": (json.dumps([*rows(["a"]), {"instruction": "a"}]), "row 2: it has no field 'input'"),
    "no text": (json.dumps([{**rows(["a"])[0], "output": 3}]), "row 1: its output must be text, not a number"),
    "no object": ('["a"]', "row 1: expected an object, not text"),
    "no list": ('{"a": 1}', "must be a list of objects with instruction, input, output, model_response"),
    "empty": ("[]", "holds no responses"),
    "no JSON": ("[{", "is not valid JSON"),
    "half a character": (json.dumps([{**rows(["a"])[0], "input": "\ud83d"}]), "its input holds half a character"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_told_in_a_sentence(run, tmp_path, content, sentence):
    path = tmp_path / "responses.json"
    path.write_text(content)
    with judge_server(number_in_response) as server:
        status, _, err = run(path, *endpoint(server))
    assert status == 1 and sentence in one_sentence(err) and str(path) in err
    assert server.requests == [] and left_over(path) == []


def test_files_that_are_not_there_or_not_utf_8(run, tmp_path):
    status, _, err = run(tmp_path / "none.json", "--base-url", "http://127.0.0.1:1/v1", "--model", "m")
    assert status == 1 and "none.json does not exist" in one_sentence(err)
    status, _, err = run(tmp_path, "--base-url", "http://127.0.0.1:1/v1", "--model", "m")
    assert status == 1 and f"{tmp_path} is a folder; name a file in it" in one_sentence(err)
    (tmp_path / "latin1.json").write_bytes('["é"]'.encode("latin-1"))
    status, _, err = run(tmp_path / "latin1.json", "--base-url", "http://127.0.0.1:1/v1", "--model", "m")
    assert status == 1 and "not UTF-8 text" in one_sentence(err)


URL = "http://127.0.0.1:1/v1"
BAD_USAGE = [
    [],
    ["--base-url", URL],
    ["--model", "m"],
    ["--base-url", URL, "--model", "m", "--judge-model", "d"],
    ["--base-url", "localhost:11434", "--model", "m"],
    ["--base-url", "ftp://localhost", "--model", "m"],
    ["--base-url", "http://[::1", "--model", "m"],
    ["--base-url", "http://a..b/v1", "--model", "m"],
    ["--base-url", "http://☃.net/v1", "--model", "m"],
    ["--base-url", URL, "--model", "\udcff"],
    ["--base-url", URL, "--model", "m", "--output", "judge.png"],
    ["--base-url", URL, "--model", "m", "--output", "judge"],
]


@pytest.mark.parametrize("options", BAD_USAGE)
def test_bad_usage(run, responses, options):
    status, _, err = run(responses, *options)
    assert status == 2 and one_sentence(err)


def test_three_files_or_twice_the_same(run, responses):
    assert run(responses, responses, responses, "--base-url", URL, "--model", "m")[0] == 2
    link = responses.with_name("link.json")
    link.symlink_to(responses)
    for same in (responses, link):
        status, _, err = run(responses, same, "--base-url", URL, "--model", "m")
        assert status == 2 and "are the same one" in one_sentence(err)


@pytest.mark.parametrize("timeout", ["1e12", "1e400", "0", "nan"])
def test_a_timeout_that_nothing_can_count(run, responses, timeout, capsys):
    with pytest.raises(SystemExit) as stop:
        run(responses, "--base-url", URL, "--model", "m", "--timeout", timeout)
    assert stop.value.code == 2 and "--timeout: must be" in capsys.readouterr().err


def test_the_command_holds_every_digit(run, responses):
    options = ("--seed", "12345678", "--timeout", "34567.25")
    with judge_server(number_in_response) as server:
        assert run(responses, *endpoint(server, *options))[0] == 0
    assert result_of(responses)["command"].endswith("--timeout 34567.25 --seed 12345678")
    card = read_card(responses.parent / "results" / "judge.json")
    assert card.seeds == [12345678] and card.command == result_of(responses)["command"]


def test_output_elsewhere_and_never_over_other_files(run, responses, tmp_path):
    with judge_server(number_in_response) as server:
        for taken in (responses, write(tmp_path / "notes.json", {"mine": 1})):
            before = taken.read_bytes()
            status, _, err = run(responses, *endpoint(server, "--output", taken))
            assert status == 1 and "choose another --output" in one_sentence(err) and taken.read_bytes() == before
        assert server.requests == []
        for _ in range(2):  # its own result it writes anew
            assert run(responses, *endpoint(server, "--output", tmp_path / "new" / "llama3.json"))[0] == 0
    assert sorted(os.listdir(tmp_path / "new")) == ["llama3.json", "llama3.png", "results"]


@pytest.mark.parametrize("taken", ["judge.png", "results/judge.json", "results", "judge.json/"])
def test_foreign_files_that_the_result_would_go_over(run, responses, taken):
    path = responses.parent / taken
    path.parent.mkdir(exist_ok=True)
    if taken.endswith("/"):  # a folder of the result's name
        (path / "judge.json").mkdir(parents=True)
    else:
        path.write_text("{}")
    with judge_server(number_in_response) as server:
        status, _, err = run(responses, *endpoint(server))
    assert status == 1 and "choose another --output" in one_sentence(err) and server.requests == []
    assert taken.endswith("/") or path.read_text() == "{}"


def test_outputs_that_are_no_plain_files(run, responses, tmp_path):
    pipe, loop = tmp_path / "pipe.json", tmp_path / "loop.json"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    with judge_server(number_in_response) as server:
        for output in (pipe, loop):
            status, _, err = run(responses, *endpoint(server, "--output", output))
            assert status == 1 and "no regular file; choose another --output" in one_sentence(err)
        status, _, err = run(responses, *endpoint(server, "--output", responses / "judge.json"))
        assert status == 1 and "choose another --output" in one_sentence(err)
        status, _, err = run(responses, *endpoint(server, "--output", "/proc/judge.json"))
        assert status == 1 and "No files can be made in /proc" in one_sentence(err) and "another --output" in err
        assert server.requests == []
        link, target = tmp_path / "link.json", tmp_path / "elsewhere" / "target.json"
        link.symlink_to(target)
        for _ in range(2):
            assert run(responses, *endpoint(server, "--output", link))[0] == 0
            assert link.is_symlink() and json.loads(target.read_text())["n_scored"] == 6


def test_responses_are_never_written_over(run, tmp_path):
    """Not even under a name that the command's own picture would have."""
    responses = write(tmp_path / "judge.json", rows(["worth 3"]))
    with judge_server(number_in_response) as server:
        assert run(responses, *endpoint(server))[0] == 1
        responses = responses.rename(tmp_path / "responses.json")
        assert run(responses, *endpoint(server))[0] == 0
        responses = responses.rename(tmp_path / "judge.png")
        before = responses.read_bytes()
        assert run(responses, *endpoint(server))[0] == 1 and responses.read_bytes() == before


def test_cards_of_two_models_stand_in_one_table(run, tmp_path):
    with judge_server(number_in_response) as server:
        for name, answers in {"small": ["worth 3", "worth 5"], "large": ["worth 8", "Worth it"]}.items():
            (tmp_path / name).mkdir()
            own = rows(answers) if name == "small" else rows(answers)[::-1]  # in another order
            server.behave = lambda body: chat("none") if "Worth" in question(body) else number_in_response(body)
            assert run(write(tmp_path / name / "responses.json", own), *endpoint(server))[0] == 0
        [group] = read_groups([tmp_path / "small", tmp_path / "large"])
        other = rows(["worth 1", "worth 2"])
        other[1]["output"] = "another reference"
        (tmp_path / "other").mkdir()
        assert run(write(tmp_path / "other" / "responses.json", other), *endpoint(server))[0] == 0
    assert {name: metrics["score"].value for name, metrics in group.metrics.items()} == {"small": 4, "large": 8}
    assert {entry.card.predictions for entry in group.entries.values()} == {"responses.json"}
    assert len(read_groups([tmp_path / "small", tmp_path / "other"])) == 2


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


def longer(body) -> Reply:
    """A judge that likes the longer response better and knows ties."""
    a, b = map(len, responses_in(body))
    return chat(json.dumps({"winner": "tie" if a == b else "A" if a > b else "B"}))


@pytest.fixture
def two_files(tmp_path) -> tuple[Path, Path]:
    a, b = ["long answer", "longer", "x", "same", "yes indeed"], ["short", "long", "longest", "also", "no"]
    return write(tmp_path / "a.json", rows(a)), write(tmp_path / "b.json", rows(b))


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
    assert "A gets 70.0% (" in out and "Wins in both orders: A 3, B 1, neither 1." in out
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
