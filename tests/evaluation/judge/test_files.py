"""The files that the judge's command reads and writes, and its options."""

import json
import os

import pytest

from hf_gpt_scratch.evaluation.report import read_groups
from hf_gpt_scratch.utils.result_card import read_card
from support.judge_server import (
    chat,
    endpoint,
    judge_server,
    left_over,
    number_in_response,
    one_sentence,
    question,
    result_of,
    rows,
    write,
)

pytestmark = pytest.mark.usefixtures("without_keys")


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
    assert result_of(responses)["command"].endswith("--seed 12345678 --timeout 34567.25")
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
            assert status == 1 and "not a regular file; choose another --output" in one_sentence(err)
        status, _, err = run(responses, *endpoint(server, "--output", responses / "judge.json"))
        assert status == 1 and "choose another --output" in one_sentence(err)
        status, _, err = run(responses, *endpoint(server, "--output", "/proc/judge.json"))
        assert status == 1 and "/proc/judge.json cannot be written" in one_sentence(err) and "another --output" in err
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
