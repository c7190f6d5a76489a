"""The instruction script on conversations of two questions, from a file to a chat that reads its history."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_gpt_scratch import Chat
from hf_gpt_scratch.evaluation.responses import read_responses
from hf_gpt_scratch.prompts import reads_history
from hf_gpt_scratch.training import instruct

COLOURS = ("red", "blue", "green", "white")
THINGS = (
    "sky",
    "car",
    "hat",
    "pen",
    "cup",
    "box",
    "door",
    "coat",
    "bird",
    "fish",
    "lamp",
    "boat",
    "tree",
    "ship",
    "road",
)
SYSTEM = {"role": "system", "content": "Be brief."}


def conversation(thing: str, colour: str) -> dict:
    """The answer to the second question is in the first one alone."""
    asked = [(f"The {thing} is {colour}.", "Yes."), ("What colour?", f"{colour.capitalize()}.")]
    turns = [
        {"role": role, "content": text}
        for pair in asked
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return {"messages": [SYSTEM, *turns] if thing == "sky" else turns}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conversations")
    rows = [conversation(thing, colour) for thing in THINGS for colour in COLOURS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"train_tokenizer": 400, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 160, "dropout": 0.0}
    settings |= {"num_train_epochs": 25, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "max_new_tokens": 8}
    settings |= {"save_strategy": "no", "load_best_model_at_end": False, "use_cpu": True, "disable_tqdm": True}
    settings |= {"data_file": folder / "rows.jsonl", "output_dir": folder / "out"}
    settings |= {"mask_prompt": True, "packing": True, "bf16": False}
    instruct.main([word for key, value in settings.items() for word in (f"--{key}", str(value))])
    return folder / "out"


def test_second_answers_are_learned_with_their_history(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["shape"] == "OpenAI's messages" and metrics["with_several_questions"] == 60
    assert metrics["with_system_message"] == 4 and metrics["leaked_pairs"] == 0
    assert metrics["later_response_perplexity"] * 20 < metrics["base"]["later_response_perplexity"]
    assert metrics["answered_rows"] == 2 * metrics["sizes"]["test"] == 12 and metrics["stop_rate"] > 0.9
    assert set(metrics["definitions"]) == set(metrics["base"])
    card = json.loads((trained / "results" / "instructions.json").read_text())
    assert {"response_perplexity", "later_response_perplexity"} <= card["metrics"].keys()


def test_the_responses_have_their_history_and_are_those_of_a_chat(trained):
    rows = json.loads((trained / "responses.json").read_text())
    assert len(rows) == 12 and sum("history" in row for row in rows) >= 6
    chat = Chat.from_pretrained(trained)
    assert chat.history and reads_history(AutoTokenizer.from_pretrained(trained).chat_template)
    first, second = rows[:2]
    assert [one["role"] for one in second["history"]][-2:] == ["user", "assistant"]
    system = SYSTEM["content"] if second["history"][0]["role"] == "system" else None
    chat = Chat.from_pretrained(trained, system=system)
    for row in (first, second):
        assert "".join(chat.ask(row["instruction"], 8)) == row["model_response"]
    read = read_responses(trained / "responses.json")
    assert read[1]["instruction"].endswith(f"Assistant: Yes.\n\nUser: {second['instruction']}")


def test_transformers_alone_reads_the_history(trained):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    chat = Chat(model, tokenizer)
    for question in conversation("hat", "blue")["messages"][::2]:
        answer = "".join(chat.ask(question["content"], 8))
    inputs = tokenizer.apply_chat_template(chat.messages[:-1], add_generation_prompt=True, return_tensors="pt")
    ids = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(ids, skip_special_tokens=True) == answer
