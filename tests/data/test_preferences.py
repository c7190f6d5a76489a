"""Preference data: both of TRL's forms, rows that cannot be used, copies, the split, and the tokens of a row."""

import json

import pytest

from hf_gpt_scratch.data.preferences import encode, encode_splits, load_preferences, split
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, render_prompt
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError


def said(role: str, content) -> dict:
    return {"role": role, "content": content}


QUESTION, GOOD, BAD = said("user", "Why?"), said("assistant", "So."), said("assistant", "Because of it.")
READ = {"prompt": [QUESTION], "chosen": "So.", "rejected": "Because of it."}


@pytest.fixture
def load(tmp_path):
    """Reads rows from a file of JSON lines."""

    def read(*rows, **options):
        path = tmp_path / "prefs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_preferences(path, **options)

    return read


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "Because of it."},
        {"prompt": [QUESTION], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [QUESTION, GOOD], "rejected": [QUESTION, BAD]},
        {"prompt": "Why?", "chosen": [QUESTION, GOOD], "rejected": [QUESTION, BAD], "score": 3},
        {"prompt": [said("user", [{"type": "text", "text": "Why?"}])], "chosen": "So.", "rejected": [BAD]},
    ],
    ids=["standard", "conversational", "without a prompt", "whole conversations", "in parts"],
)
def test_every_form_is_read_alike(load, row):
    assert load(row).rows == [READ]


def test_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "prefs.csv"
    path.write_text('prompt;chosen;rejected\nWhy?;So.;"Because\nof it."\nWho?;I.;Me.\n')
    assert [row["rejected"] for row in load_preferences(path).rows] == ["Because\nof it.", "Me."]


def test_a_spreadsheet_holds_messages_as_json(tmp_path):
    path = tmp_path / "prefs.csv"
    cells = [json.dumps([one]).replace('"', '""') for one in (QUESTION, GOOD, BAD)]
    path.write_text("prompt,chosen,rejected\n" + ",".join(f'"{cell}"' for cell in cells) + "\n[1] Why?,[So],[No]\n")
    first, second = load_preferences(path).rows
    assert first == READ
    assert second == {"prompt": [said("user", "[1] Why?")], "chosen": "[So]", "rejected": "[No]"}  # texts stay texts


def test_a_row_of_too_many_cells_is_dropped_on_request(tmp_path):
    path = tmp_path / "prefs.csv"
    path.write_text("prompt,chosen,rejected\nWhy?,So.,Because of it.\nWho?,I,you,he\n")
    assert load_preferences(path, bad_rows="drop").rows == [READ]
    with pytest.raises(InputError, match="row 3: it has 4 cells"):
        load_preferences(path)


def test_sharegpts_names_and_parts_are_read_as_in_conversations(load):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = [{"from": "system", "value": ""}, {"from": "human", "value": "Why?"}]
    [row] = load(
        {"prompt": asked, "chosen": [{"from": "gpt", "value": "So."}], "rejected": [said("assistant", parts)]}
    ).rows
    assert row == {"prompt": [QUESTION], "chosen": "So.", "rejected": "a\nb"}


def test_turns_before_the_question_are_part_of_the_prompt(load):
    before = [said("system", "Be brief."), said("user", "Hi."), said("assistant", "Hello."), QUESTION]
    [row] = load({"chosen": [*before, GOOD], "rejected": [*before, BAD]}).rows
    assert row["prompt"] == before


FAULTS = {
    r"column chosen: message 1 \(assistant\) is empty": {"prompt": "Why?", "rejected": "no"},
    r"column rejected: message 1 \(assistant\) is empty": {"prompt": "Why?", "chosen": "So.", "rejected": " "},
    "its chosen and its rejected answer are the same": {"prompt": "Why?", "chosen": "So.", "rejected": "So."},
    r"column prompt: message 1 \(user\) is empty": {"chosen": "So.", "rejected": "no"},
    "column prompt: the roles are out of order": {"prompt": [GOOD], "chosen": "a", "rejected": "b"},
    "column prompt: it does not end with a message of the role user": {
        "prompt": [QUESTION, GOOD],
        "chosen": "a",
        "rejected": "b",
    },
    r"column chosen: message 1 \(assistant\) must be text, not a number": {
        "prompt": "Why?",
        "chosen": 3,
        "rejected": "b",
    },
    "its chosen and its rejected answer follow different messages": {
        "chosen": [QUESTION, GOOD],
        "rejected": [said("user", "Who?"), BAD],
    },
    r"column chosen: message 1 \(assistant\) has a part that is not text \(image_url\)": {
        "prompt": "Why?",
        "chosen": [said("assistant", [{"type": "text", "text": "So."}, {"type": "image_url", "image_url": "x"}])],
        "rejected": "b",
    },
    "column prompt: message 1 is a tool call": {
        "prompt": [said("tool", "4"), QUESTION],
        "chosen": "a",
        "rejected": "b",
    },
    "column prompt: message 2 has the role 'judge'": {
        "prompt": [QUESTION, said("judge", "Hm.")],
        "chosen": "a",
        "rejected": "b",
    },
}


@pytest.mark.parametrize("problem", FAULTS)
def test_a_row_that_cannot_be_used_is_named_or_dropped_and_counted(load, problem):
    good, bad = {"prompt": "Why?", "chosen": "So.", "rejected": "Because of it."}, FAULTS[problem]
    with pytest.raises(InputError, match=rf"prefs.jsonl, \w+ 2, {problem}.*.1 more row cannot.*--bad_rows drop"):
        load(good, bad, bad)
    kept = load(good, bad, bad, bad_rows="drop")
    assert kept.rows == [READ] and kept.dropped == {"unusable": 2}
    assert kept.notes[-1] == "Left out: 2 unusable rows."


def test_copies_count_once_and_contradictions_not_at_all(load):
    rows = [{"prompt": "Why?", "chosen": a, "rejected": b} for a, b in ("ab", "ab", "cd", "dc", "ac")]
    found = load(*rows)
    assert [(row["chosen"], row["rejected"]) for row in found.rows] == [("a", "b"), ("a", "c")]
    assert found.dropped == {"repeated": 1, "contradictory": 2}
    with pytest.raises(InputError, match="no preference to learn from. Left out: 2 contradictory rows"):
        load(*rows[2:4])


def test_other_columns_are_named(load):
    with pytest.raises(InputError, match="has the columns text, label; preferences need prompt, chosen, rejected"):
        load({"text": "a", "label": "b"})


def test_no_prompt_is_in_two_parts_of_the_split():
    rows = [{**READ, "prompt": [said("user", f"Why {n}{mark}")]} for n in range(30) for mark in ("?", " ?!")]
    parts = split(rows, seed=1)
    asked = {name: {row["prompt"][0]["content"][:6].strip(" ?!") for row in part} for name, part in parts.items()}
    assert {name: len(part) for name, part in parts.items()} == {"train": 48, "validation": 6, "test": 6}
    assert sum(map(len, asked.values())) == 30 == len(set.union(*asked.values()))
    assert split(rows, seed=2)["test"]["prompt"] != parts["test"]["prompt"]
    with pytest.raises(InputError, match="at least 10 different prompts, and there are 9"):
        split(rows[:18], seed=1)


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = train_tokenizer([render_prompt("Why?") + "So. Because of it."] * 3, 330, model_max_length=256)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def test_a_row_is_the_prompt_that_a_chat_reads_and_answers_that_end(tokenizer):
    row = encode(READ, tokenizer, 256)
    assert tokenizer.decode(row["prompt_ids"]) == render_prompt("Why?")
    assert row["chosen_ids"][-1] == row["rejected_ids"][-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row["chosen_ids"][:-1]) == "So." and row["is_usable"] and row["cut_answers"] == 0


def test_special_tokens_in_the_data_are_text(tokenizer):
    eos = tokenizer.eos_token
    row = encode({"prompt": [said("user", eos)], "chosen": f"{eos}So.", "rejected": "no"}, tokenizer, 256)
    assert tokenizer.eos_token_id not in row["prompt_ids"]
    assert row["chosen_ids"].count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(row["chosen_ids"][:-1]) == f"{eos}So."


def test_what_is_too_long_is_cut_or_left_out_and_counted(tokenizer):
    rows = [{**READ, "prompt": [said("user", f"Why {n}?")]} for n in range(10)]
    length = len(encode(rows[0], tokenizer, 256)["prompt_ids"])
    long = {**READ, "prompt": [said("user", "Why 0? " + "w" * length)]}
    limit = length + length // 2
    differing = {**rows[0], "chosen": "x" * limit + "a", "rejected": "x" * limit + "b"}
    parts = split(rows, seed=0)
    for row in (long, differing, {**rows[0], "chosen": "x" * limit}):
        parts["train"] = parts["train"].add_item(row)
    encoded, cut = encode_splits(parts, tokenizer, limit)
    assert cut == {
        "train": {"answers": 1, "left_out": 2},
        "validation": {"answers": 0, "left_out": 0},
        "test": {"answers": 0, "left_out": 0},
    }
    assert len(encoded["train"]) == 9 and len(encoded["train"][-1]["chosen_ids"]) == limit - length
    assert encoded["train"][-1]["chosen_ids"][-1] != tokenizer.eos_token_id
    with pytest.raises(InputError, match="No train prompt leaves a quarter of 20 tokens to its answers"):
        encode_splits(parts, tokenizer, 20)
