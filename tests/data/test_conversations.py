"""Questions and answers of every shape become conversations; a wrong row is named with its file and column."""

import csv
import json

import pytest
from datasets import Dataset

from hf_gpt_scratch.data import alpaca, download
from hf_gpt_scratch.data.conversations import load_conversations
from hf_gpt_scratch.prompts import user_message
from hf_gpt_scratch.utils.errors import InputError
from support.bad_server import bad_server

GOOD = {"instruction": "Name a colour.", "input": "", "output": "Blue."}
ONE = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}]
SYSTEM = {"role": "system", "content": "Be brief."}
TWO = [*ONE, {"role": "user", "content": "Another?"}, {"role": "assistant", "content": "Red."}]


def written(path, rows):
    """The file of the rows, of the kind that its name says."""
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def messages(path) -> list:
    return [row["messages"] for row in load_conversations(path).rows]


SHAREGPT = {"system": "human", "user": "human", "assistant": "gpt"}


def sharegpt(conversation: list[dict]) -> list[dict]:
    return [{"from": {**SHAREGPT, "system": "system"}[one["role"]], "value": one["content"]} for one in conversation]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("row", "expected", "shape"),
    [
        (GOOD, ONE, "Alpaca: instruction, input, output"),
        ({"instruction": "Name a colour.", "response": "Blue."}, ONE, "Dolly: instruction, response"),
        ({"prompt": "Name a colour.", "completion": "Blue."}, ONE, "prompt and completion"),
        ({"Question": "Name a colour.", "Answer": "Blue.", "id": "7"}, ONE, "question and answer: Question, Answer"),
        (
            {"question": "Which?", "context": "red or blue", "answer": "Blue.", "system": "Be brief."},
            [SYSTEM, {"role": "user", "content": user_message("Which?", "red or blue")}, ONE[1]],
            "question and answer: system, question, context, answer",
        ),
        ({"messages": [SYSTEM, *TWO], "prompt": "x"}, [SYSTEM, *TWO], "OpenAI's messages"),
        ({"conversations": sharegpt([SYSTEM, *TWO]), "id": "a"}, [SYSTEM, *TWO], "ShareGPT's conversations"),
        ({"conversations": sharegpt(TWO), "system": "Be brief."}, [SYSTEM, *TWO], "ShareGPT's conversations"),
    ],
)
def test_every_shape_in_every_kind_of_file(suffix, row, expected, shape, tmp_path):
    if suffix == ".csv":  # which holds lists as JSON
        row = {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
    data = load_conversations(written(tmp_path / f"rows{suffix}", [row] * 2))
    assert [one["messages"] for one in data.rows] == [expected] * 2
    assert data.shape.startswith(shape) and len(data.sha256) == 64 and data.dropped == 0


def test_a_prompt_and_its_completion_may_be_messages(tmp_path):
    row = {"prompt": [SYSTEM, *TWO[:3]], "completion": TWO[3:]}
    assert messages(written(tmp_path / "trl.json", [row])) == [[SYSTEM, *TWO]]


def test_parts_of_a_message_are_joined_and_roles_have_many_names(tmp_path):
    parts = [{"type": "text", "text": "Name"}, {"type": "text", "text": "a colour."}]
    row = {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "Human", "content": parts}, ONE[1]]}
    [found] = messages(written(tmp_path / "rows.json", [row]))
    assert found == [SYSTEM, {"role": "user", "content": "Name\na colour."}, ONE[1]]


def test_the_key_that_holds_the_list_is_used_and_said(tmp_path):
    (tmp_path / "faq.json").write_text(json.dumps({"version": 2, "data": [{"question": "Q?", "answer": "A."}]}))
    data = load_conversations(tmp_path / "faq.json")
    assert len(data.rows) == 1 and any("'data'" in note for note in data.notes)


def test_json_lines_are_read_like_a_list(tmp_path):
    rows = [GOOD, {**GOOD, "input": None, "id": 7}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    for name in ("list.json", "lines.jsonl"):
        assert messages(tmp_path / name) == [ONE, ONE]


def turn(role: str, content="x", **more) -> dict:
    return {"role": role, "content": content, **more}


def said(*turns) -> list:
    return [{"messages": ONE}, {"messages": list(turns)}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([GOOD, {"instruction": "Do.", "input": ""}], "data.json, row 2, column output: it is empty"),
        ([GOOD, GOOD, {**GOOD, "output": " "}], "row 3, column output: it is empty"),
        ([GOOD, {**GOOD, "instruction": ""}], "row 2, column instruction: it is empty"),
        ([GOOD, {**GOOD, "output": 5}], "row 2, column output: it must be text, not a number"),
        ([GOOD, {**GOOD, "input": "a \ud83d"}], "row 2, column input: it holds half a character"),
        ([GOOD, {**GOOD, "output": ""}, {**GOOD, "output": ""}], "row 2, column output: it is empty (1 more row is b"),
        ([{"text": "a", "answer": "b"}], "has the columns text, answer, and none of them are known to hold questions"),
        ([GOOD, "text"], "data.json, row 2: expected an object"),
        ([], "has no rows"),
        (said(turn("user"), turn("user")), "row 2, column messages: the roles are out of order (message 2 is of the"),
        (said(turn("assistant"), turn("user")), "the roles are out of order (message 1 is of the role assistant"),
        (said(turn("user"), turn("system")), "the roles are out of order (message 2 is of the role system"),
        (said(turn("user"), turn("assistant"), turn("user")), "column messages: the conversation ends without an ans"),
        (said(turn("system")), "column messages: the conversation ends without an answer"),
        (said(turn("user"), turn("moderator")), "column messages: message 2 has the role 'moderator'; known are sy"),
        (said(turn("user"), turn("assistant", " ")), "column messages: message 2 (assistant) is empty"),
        (said(turn("user"), turn("assistant", None, tool_calls=[{"id": "1"}])), "message 2 is a tool call or its re"),
        (said(turn("user"), turn("tool")), "column messages: message 2 is a tool call or its result"),
        (said(turn("user", [{"type": "image_url"}])), "message 1 (user) has a part that is not text (image_url)"),
        (said("text"), "column messages: message 1 must be an object, not text"),
        ([{"messages": ONE}, {"messages": "Hello"}], "row 2, column messages: it is not a list of messages as JSON"),
        ([{"messages": ONE}, {"messages": []}], "row 2, column messages: it holds no list of messages"),
    ],
)
def test_a_wrong_row_is_named_with_its_file_and_column(content, reason, tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        load_conversations(path)
    assert "data.json" in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)


def test_bad_rows_are_left_out_and_counted_where_that_is_wanted(tmp_path):
    path = tmp_path / "faq.csv"
    path.write_text("question,answer\nWho?,Me.\nWhy?,\nHow?,a,b\nWhen?,Now.\n")
    data = load_conversations(path, bad_rows="drop")
    assert [row["messages"][0]["content"] for row in data.rows] == ["Who?", "When?"] and data.dropped == 2
    path.write_text("question,answer\nWhy?,\n")
    with pytest.raises(InputError, match="faq.csv, row 2, column answer: it is empty; correct the rows"):
        load_conversations(path, bad_rows="drop")


def test_a_hub_set_is_read_by_its_columns(monkeypatch):
    table = Dataset.from_list([{**GOOD, "text": "x"}, {**GOOD, "output": "", "text": "x"}])
    monkeypatch.setattr(download, "load_dataset", lambda name, split: table)
    data = load_conversations(dataset_name="user/set", bad_rows="drop")
    assert [row["messages"] for row in data.rows] == [ONE] and data.dropped == 1
    monkeypatch.setattr(download, "load_dataset", lambda name, split: table.remove_columns("output"))
    with pytest.raises(InputError, match="user/set has the columns instruction, input, text, and none"):
        load_conversations(dataset_name="user/set")


def test_the_book_set_is_the_default(monkeypatch, shared_data, tmp_path):
    content = (shared_data / "instruction" / "instruction-data.json").read_bytes()
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with bad_server(json.dumps([GOOD]).encode()) as server:
        monkeypatch.setattr(alpaca, "URL", f"{server.url}/data.json")
        with pytest.raises(InputError, match=f"its SHA-256 is not {alpaca.SHA256}.*--data_file"):
            load_conversations()
        server.content = content
        data = load_conversations()
        assert len(data.rows) == 1100 and data.sha256 == alpaca.SHA256 and data.source == alpaca.URL


def test_an_empty_system_message_is_none(tmp_path):
    path = tmp_path / "data.json"
    for empty in ("", " ", None):
        row = {"messages": [{"role": "system", "content": empty}, *TWO]}
        path.write_text(json.dumps([row, {"messages": TWO}]))
        first, second = load_conversations(path).rows
        assert first == second


def test_a_prompt_may_be_text_and_its_completion_messages_or_the_reverse(tmp_path):
    path = tmp_path / "data.json"
    question, answer = TWO[:2]
    shapes = [(question["content"], [answer]), ([question], answer["content"]), ([question], [answer])]
    path.write_text(json.dumps([{"prompt": asked, "completion": said} for asked, said in shapes]))
    assert load_conversations(path).rows == [{"messages": [question, answer]}] * 3
