"""A server that takes not all parameters, or answers with something else than an answer for a moment."""

import json

import pytest

from hf_gpt_scratch.evaluation.judge import endpoint as judges
from support.judge_server import (
    HTML,
    SCORES,
    Reply,
    endpoint,
    error,
    judge_server,
    number_in_response,
    one_sentence,
    question,
    result_of,
)

pytestmark = pytest.mark.usefixtures("without_keys")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(judges, "BACK_OFF", 0.001)


def card_of(path) -> dict:
    return json.loads((path.parent / "results" / "judge.json").read_text())


def by_name(name: str, message: str) -> Reply:
    return error(400, message.format(name))


def in_detail(name: str, message: str) -> Reply:
    """As FastAPI says it."""
    return Reply(
        json.dumps({"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"}]}).encode(), 422
    )


UNKNOWN = "Unsupported parameter: '{}' is not supported with this model."
RENAMED = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
REFUSED = {
    "temperature": (by_name, {"temperature": UNKNOWN}, ["no temperature"]),
    "temperature of 0": (by_name, {"temperature": "`{}` must be strictly positive"}, ["no temperature"]),
    "seed": (in_detail, {"seed": ""}, ["no seed"]),
    "max_tokens": (by_name, {"max_tokens": UNKNOWN}, ["no max_tokens"]),
    "max_completion_tokens": (by_name, {"max_tokens": RENAMED}, ["max_completion_tokens for max_tokens"]),
    "two": (by_name, {"temperature": UNKNOWN, "seed": UNKNOWN}, ["no seed", "no temperature"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_parameter_is_left_out_and_the_card_says_so(name, run, responses):
    refuse, refused, changed = REFUSED[name]

    def behave(body):
        found = next((key for key in refused if key in body), None)
        return refuse(found, refused[found]) if found else number_in_response(body)

    with judge_server(behave) as server:
        status, _, err = run(responses, *endpoint(server))
    assert status == 0 and all(f"refuses {key}" in err for key in refused)
    assert len(server.requests) <= len(SCORES) + len(refused)  # it is not sent again
    assert all("response_format" in body for body in server.requests)  # and the schema is not blamed
    last = server.requests[-1]
    assert not refused.keys() & last.keys()
    assert last.get("max_completion_tokens") == (512 if name == "max_completion_tokens" else None)
    result = result_of(responses)
    assert [item["score"] for item in result["items"]] == SCORES and result["changed"] == changed
    assert f"judge llama3 ({', '.join(changed)}), mean of 0 to 100" == card_of(responses)["protocol"]


def test_a_question_that_is_too_long_is_no_refused_parameter(run, responses):
    said = "'max_tokens' is too large: 512. This model's maximum context length is 2048 tokens."

    def behave(body):
        return error(400, said) if "worth 0" in question(body) else number_in_response(body)

    with judge_server(behave) as server:
        status, _, err = run(responses, *endpoint(server))
    assert status == 1 and "1 of 6 could not be judged" in one_sentence(err)
    assert all({"temperature", "seed", "max_tokens"} <= body.keys() for body in server.requests)
    assert "changed" not in result_of(responses) and card_of(responses)["protocol"].startswith("judge llama3, mean")


NO_ANSWERS = {
    "a page": HTML,
    "an empty body": Reply(b""),
    "JSON without choices": Reply(b'{"status": "loading"}'),
    "cut JSON": Reply(b'{"choices": [{"message": {"con'),
    "an error": Reply(b'{"error": {"message": "provider is busy"}}'),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
@pytest.mark.parametrize("when", [0, 3])
def test_no_answer_with_the_status_of_a_success_is_asked_for_again(name, when, run, responses):
    count = []

    def behave(body):
        count.append(1)
        return NO_ANSWERS[name] if len(count) == when + 1 else number_in_response(body)

    with judge_server(behave) as server:
        assert run(responses, *endpoint(server, "--workers", 1))[0] == 0
        assert len(server.requests) == len(SCORES) + 1
    assert [item["score"] for item in result_of(responses)["items"]] == SCORES


def test_what_is_never_an_answer_ends_soon(run, responses):
    with judge_server(lambda body: HTML) as server:
        status, _, err = run(responses, *endpoint(server))
        assert status == 1 and "is not an OpenAI-compatible API" in one_sentence(err)
        assert 2 <= len(server.requests) <= 4
