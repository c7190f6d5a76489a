"""The judge's command against endpoints that behave and misbehave."""

import json
import os
import socket
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from PIL import Image

from hf_gpt_scratch.evaluation.intervals import wilson
from hf_gpt_scratch.evaluation.judge import endpoint as judges
from hf_gpt_scratch.utils.files import write_json
from hf_gpt_scratch.utils.provenance import sha256
from hf_gpt_scratch.utils.result_card import Metric, read_card
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


@pytest.mark.parametrize(
    ("base_url", "asked"),
    [
        ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
        ("http://h:1", "http://h:1/v1/chat/completions"),
        ("https://h/openai?version=2", "https://h/openai/v1/chat/completions?version=2"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
    ],
)
def test_the_address_that_is_asked(base_url, asked):
    assert judges._completions_url(base_url) == asked


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
        first = "HTTPS://other:hidden@h/v1?key=hushhush"  # an address that the second takes the place of
        options = ("--base-url", first, f"--base-url={url}", "--model", "m", "--output", output)
        assert run(responses, *options)[0] == 0
        assert f"--base-url={server.url} " in json.loads(output.read_text())["command"]
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
# What answers with the status of a success and no answer is asked for it twice more before that.
NEVER_WORKS = {
    "500": (lambda body: error(500, "out of memory"), 6, "HTTP status 500 (out of memory)"),
    "overloaded": (lambda body: error(503, "busy", Retry_After="0"), 6, "HTTP status 503 (busy)"),
    "too many": (lambda body: error(429, "slow down"), 5, "HTTP status 429 (slow down)"),
    "HTML": (lambda body: HTML, 4, "JSON object, so it is not an OpenAI-compatible API; check --base-url"),
    "HTML 502": (lambda body: Reply(HTML.body, 502, "text/html"), 6, "HTTP status 502"),
    "no such model": (lambda body: error(404, 'model "llama3" not found'), 2, "check --model and --base-url"),
    "no key": (lambda body: error(401, "no key"), 1, "OPENAI_API_KEY"),
    "a JSON list": (lambda body: Reply(b"[1, 2]"), 4, "did not answer with a JSON object"),
    "an error that is a list": (lambda body: Reply(b"[1]", 500), 6, "HTTP status 500"),
    "a list in a list in a...": (lambda body: Reply(b"[" * 100_000), 4, "did not answer with a JSON object"),
    "an error that is one": (lambda body: Reply(b"[" * 100_000, 500), 6, "HTTP status 500"),
    "no choices": (lambda body: Reply(b'{"choices": []}'), 4, "JSON without choices"),
    "a broken connection": (lambda body: Reply(b"", 0), 5, "closed the connection"),
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


def test_json_that_no_file_can_hold_leaves_no_part_of_it(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_json(tmp_path / "judge.json", ["\ud83d"])
    assert os.listdir(tmp_path) == []
