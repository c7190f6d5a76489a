"""Instruction data: reading that names the wrong row, a split that does not leak, tokens as generation meets them."""

import json
from collections import Counter

import pytest
from datasets import Dataset

from hf_gpt_scratch.data import alpaca, download
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, render_prompt, user_message
from hf_gpt_scratch.tokenizer import gpt2_tokenizer, train_tokenizer
from hf_gpt_scratch.utils.errors import InputError

GOOD = {"instruction": "Name a colour.", "input": "", "output": "Blue."}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([render_prompt("Name a colour, one of many.", "red or blue") + "Blue."] * 3, 300)


@pytest.fixture(scope="module")
def book(shared_data) -> alpaca.Instructions:
    return alpaca.load_instructions(shared_data / "instruction" / "instruction-data.json")


def test_the_book_set_is_read_whole_and_split_without_a_leak(book):
    assert len(book.rows) == 1100 and book.sha256 == alpaca.SHA256
    assert sum(bool(row["input"]) for row in book.rows) == 325
    splits = alpaca.split(book.rows, seed=123)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 935, "validation": 55, "test": 110}
    as_tuples = Counter(tuple(row.values()) for rows in splits.values() for row in rows)
    assert as_tuples == Counter(tuple(row.values()) for row in book.rows)
    assert alpaca.leaked_pairs(splits) == 0
    in_file_order = {"train": book.rows[:935], "test": book.rows[935:1045], "validation": book.rows[1045:]}
    assert alpaca.leaked_pairs(in_file_order) >= 6  # what the usual split leaks


def test_the_seed_decides_the_split(book):
    first, again, other = (alpaca.split(book.rows, seed)["test"]["instruction"] for seed in (1, 1, 2))
    assert first == again != other


def test_copies_differ_in_case_and_punctuation_only():
    row = {"instruction": "Translate:  'Yes!'", "input": "A B"}
    assert alpaca.normalize(row) == alpaca.normalize({"instruction": "translate yes", "input": "a, b."})
    assert alpaca.normalize(row) != alpaca.normalize({**row, "input": "A C"})
    assert alpaca.normalize({**row, "input": "+"}) != alpaca.normalize({**row, "input": "-"})


def test_too_few_rows_to_split():
    with pytest.raises(InputError, match="at least 20 different instructions, and there are 1"):
        alpaca.split([GOOD] * 100, seed=0)


def test_a_pair_with_many_copies_stays_in_train():
    different = [{**GOOD, "instruction": f"Name colour {n}."} for n in range(300)]
    for seed in range(3):
        splits = alpaca.split(different + [{**GOOD, "instruction": "Write a haiku."}] * 700, seed)
        assert {name: len(rows) for name, rows in splits.items()} == {"train": 850, "validation": 50, "test": 100}
    with pytest.raises(InputError, match="too many rows have the same"):
        alpaca.split(different[:19] * 60 + different[19:20], 0)  # the one that fits is taken by the test set


def test_json_lines_are_read_like_a_list(tmp_path):
    rows = [GOOD, {**GOOD, "input": None, "id": 7}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    for name in ("list.json", "lines.jsonl"):
        assert alpaca.load_instructions(tmp_path / name).rows == [GOOD, GOOD]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([GOOD, {"instruction": "Do.", "input": ""}], "row 2: it has no field 'output'"),
        ([{"instruction": "Do.", "output": "Done."}], "row 1: it has no field 'input' (it may be empty, but"),
        ([GOOD, GOOD, {**GOOD, "output": " "}], "row 3: its output is empty"),
        ([{**GOOD, "instruction": ""}], "row 1: its instruction is empty"),
        ([GOOD, {**GOOD, "output": 5}], "row 2: its output must be text, not a int"),
        ([GOOD, {**GOOD, "input": "a \ud83d"}], "row 2: its input holds half a character"),
        ([GOOD, "text"], "row 2: expected an object with instruction, input, output, not a str"),
        ("text", "must be a list of objects with instruction, input, output, not a str"),
        ([], "has no rows"),
        (b"[1, 2", "is not valid JSON"),
        (json.dumps(GOOD).encode() + b"\n{broken", "line 2: not a JSON object"),
        (b"\xff\xfe[", "is not UTF-8 text"),
    ],
)
def test_a_wrong_file_is_named_with_its_row(content, reason, tmp_path):
    path = tmp_path / "data.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError) as error:
        alpaca.load_instructions(path)
    assert str(path) in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)


def test_a_hub_set_loses_its_rows_without_an_answer(monkeypatch):
    table = Dataset.from_list([{**GOOD, "text": "x"}, {**GOOD, "output": "", "text": "x"}])
    monkeypatch.setattr(download, "load_dataset", lambda name, split: table)
    data = alpaca.load_instructions(dataset_name="user/set")
    assert data.rows == [GOOD] and data.dropped == 1
    monkeypatch.setattr(download, "load_dataset", lambda name, split: table.remove_columns("output"))
    with pytest.raises(InputError, match="not instruction, input, output; choose another"):
        alpaca.load_instructions(dataset_name="user/set")


def test_a_download_with_another_hash_is_refused(monkeypatch, tmp_path):
    (tmp_path / "data.json").write_text(json.dumps([GOOD]))
    monkeypatch.setattr(download.DownloadManager, "download", lambda self, url: str(tmp_path / "data.json"))
    with pytest.raises(InputError, match="does not have the expected SHA-256"):
        alpaca.load_instructions()


@pytest.mark.parametrize("mask_prompt", [False, True])
def test_the_end_token_is_learned_and_the_prompt_is_what_a_server_sends(shared_data, mask_prompt):
    folder = shared_data / "gpt2_tokenizer"
    tokenizer = gpt2_tokenizer(folder / "vocab.json", folder / "merges.txt")  # whose end token is its padding too
    tokenizer.chat_template = CHAT_TEMPLATE
    row = {"instruction": "Name a colour.", "input": "red or blue", "output": "Blue."}
    encoded = alpaca.encode(row, tokenizer, 1024, mask_prompt)
    prompt = encoded["prompt_length"]
    messages = [{"role": "user", "content": user_message(row["instruction"], row["input"])}]
    served = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert encoded["input_ids"][:prompt] == served
    assert tokenizer.decode(encoded["input_ids"][prompt:]) == "Blue.<|endoftext|>"
    ignored = prompt if mask_prompt else 1
    assert encoded["labels"] == [-100] * ignored + encoded["input_ids"][ignored:]
    assert not encoded["cut_prompt"] and not encoded["cut_response"]


def test_a_long_input_is_cut_on_its_left_and_a_long_response_at_its_end(tokenizer):
    row = {"instruction": "Name a colour.", "input": "red or blue " * 50 + "or last", "output": "Blue. " * 50}
    encoded = alpaca.encode(row, tokenizer, 128, mask_prompt=True)
    prompt, response = (
        tokenizer.decode(encoded["input_ids"][part])
        for part in (slice(encoded["prompt_length"]), slice(encoded["prompt_length"], None))
    )
    head, tail = render_prompt("Name a colour.", "|").split("|")
    assert prompt.startswith(head) and prompt.endswith("or last" + tail) and 80 < encoded["prompt_length"] <= 96
    assert response.startswith("Blue. Blue.") and tokenizer.eos_token not in response
    assert len(encoded["input_ids"]) == 128 and encoded["cut_prompt"] and encoded["cut_response"]
    with pytest.raises(InputError, match="The prompt of .* takes .* tokens"):
        alpaca.encode({**row, "instruction": "Name a colour. " * 50}, tokenizer, 128)


def test_a_response_that_just_fits_keeps_its_end_token(tokenizer):
    whole = alpaca.encode(GOOD, tokenizer, 1024)
    length = len(whole["input_ids"])
    assert whole["input_ids"][-1] == whole["labels"][-1] == tokenizer.eos_token_id
    if whole["prompt_length"] <= length - length // 4:
        assert alpaca.encode(GOOD, tokenizer, length) == whole
        assert alpaca.encode(GOOD, tokenizer, length - 1)["cut_response"]


def test_a_special_token_spelled_out_in_the_data_is_text(tokenizer):
    encoded = alpaca.encode({**GOOD, "output": f"The {tokenizer.eos_token} token."}, tokenizer, 1024)
    assert encoded["input_ids"].count(tokenizer.eos_token_id) == 1
