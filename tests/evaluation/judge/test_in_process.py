"""Judges that are models: in this process, their probabilities read; and behind a server, through its interface."""

import json
import shutil
from os.path import commonprefix

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.evaluation.intervals import bootstrap_mean
from hf_gpt_scratch.evaluation.judge import in_process as judge_in_process
from hf_gpt_scratch.evaluation.judge.answers import Answer
from hf_gpt_scratch.evaluation.judge.in_process import ModelJudge
from hf_gpt_scratch.evaluation.judge.prompts import Task
from hf_gpt_scratch.evaluation.judge.results import summarize
from hf_gpt_scratch.model_folder import contents
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.result_card import read_card
from support import models
from support.judge_server import ModelBehaviour, judge_server, question, result_of, rows, write

TASK = Task("Name a number.", "in words", "seven", ("eight",))
PAIR = Task("Name a number.", "in words", "seven", ("eight", "Seven!"))
LONG = "many words of no use " * 200


def save_model(folder, model_class=GPTScratchForCausalLM, digits=True, chat=True, positions=768):
    """A random model wide enough in its weights that its answers differ; each digit a token, or whole numbers."""
    numbers = [f"Score: {n}\n{n}\n### Response:\n{n}" for n in range(101) for _ in range(3)]
    texts, template = numbers + ["many words of no use"] * 9, CHAT_TEMPLATE if chat else None
    if model_class is not LlamaForCausalLM:
        shape = {"n_positions": positions, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
        return models.save_model(folder, model_class, 3, texts, 258 + 400, digits=digits, chat=template, **shape)
    fitting = models.save_tokenizer(folder, texts, 258 + 400, digits, template)
    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
        **fitting,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model")


def spelled_out(judge: ModelJudge, task: Task) -> tuple[float, float]:
    """The expectation and the probability of all choices, each one's text read whole."""
    text = task.message(task.mode.as_text)
    if judge.tokenizer.chat_template:
        messages = [{"role": "user", "content": text}]
        prompt = judge.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        prompt = f"{text}\n\n{task.mode.cue} "
    choices = {choice: judge.tokenizer(prompt + choice)["input_ids"] for choice in task.mode.choices}
    before = len(commonprefix(list(choices.values())))  # a space of its own that all begin with is given
    probabilities = {}
    for choice, ids in choices.items():
        with torch.no_grad():
            following = judge.model(torch.tensor([ids])).logits[0].double().softmax(-1)
        probability = np.prod([following[i - 1, ids[i]].item() for i in range(before, len(ids))])
        longer = {other[len(ids)] for other in choices.values() if len(other) > len(ids) and other[: len(ids)] == ids}
        probabilities[choice] = probability * (1 - sum(following[-1, token].item() for token in longer))
    mass = sum(probabilities.values())
    return sum(p * task.mode.choices[choice] for choice, p in probabilities.items()) / mass, mass


@pytest.mark.parametrize("task", [TASK, PAIR], ids=["score", "compare"])
@pytest.mark.parametrize("chat", [True, False], ids=["chat template", "plain"])
@pytest.mark.parametrize("digits", [True, False], ids=["digits", "numbers"])
def test_a_score_is_the_expectation_over_the_answers(tmp_path, task, chat, digits):
    judge = ModelJudge(str(save_model(tmp_path / "model", digits=digits, chat=chat)))
    lengths = {len(judge.tokenizer(f"\n{n}" if chat else f" {n}")["input_ids"]) for n in (5, 42)}
    assert len(lengths) == (2 if digits else 1), "both ways of writing numbers are to be seen"
    [(_, answer)] = judge.answers({"key": task})
    expectation, mass = spelled_out(judge, task)
    assert answer.value == pytest.approx(expectation, rel=1e-4)
    assert answer.details == {"probability_mass": pytest.approx(mass, rel=1e-3), "truncated": False}
    assert answer.text in task.mode.choices


@pytest.mark.parametrize("model_class", [GPTScratchForCausalLM, LlamaForCausalLM])
def test_an_answer_does_not_depend_on_its_batch(tmp_path, monkeypatch, model_class):
    judge = ModelJudge(str(save_model(tmp_path / "model", model_class)))
    tasks = {str(i): Task("Count.", "", "all", ("word " * (7 * i),)) for i in range(6)}
    together = dict(judge.answers(tasks))
    monkeypatch.setattr(judge_in_process, "ROWS_PER_BATCH", 1)
    alone = dict(judge.answers(tasks))
    values = [together[key].value for key in tasks]
    assert values == pytest.approx([alone[key].value for key in tasks], rel=1e-4)
    assert values[2] == pytest.approx(spelled_out(judge, tasks["2"])[0], rel=1e-4)  # neither longest nor shortest
    assert max(values) - min(values) > 0.1, "they must differ to show anything"


def test_the_command_judges_in_process(run, folder, tmp_path):
    path = write(tmp_path / "responses.json", rows(["one", "two two", "three", LONG]))
    logging.enable_progress_bar()
    status, out, err = run(path, "--judge-model", folder)
    assert (status, err) == (0, "Using cpu, float32.\n") and "Mean score" in out and "1 prompt was too long" in out
    assert "of its probability" in out
    card = read_card(path.parent / "results" / "judge.json")
    assert card.protocol.startswith("judge in process, ") and 0 < card.metrics["probability_mass"].value < 1
    result = result_of(path)
    judge = ModelJudge(str(folder))
    expected = [
        spelled_out(judge, Task(row["instruction"], row["input"], row["output"], (row["model_response"],)))[0]
        for row in json.loads(path.read_text())[:2]
    ]
    assert [item["score"] for item in result["items"]][:2] == pytest.approx(expected, rel=1e-4)
    assert [item["truncated"] for item in result["items"]] == [False, False, False, True]
    assert result["n_scored"] == 4 and result["n_truncated"] == 1
    assert result["judge"]["files"] == judge.files and "model.safetensors" in judge.files
    assert result["command"] == f"hf-gpt-scratch judge {path} --judge-model {folder}"
    assert 0 < result["mean_probability_mass"] < 1


def test_the_command_compares_in_process(run, folder, tmp_path):
    a = write(tmp_path / "a.json", rows(["one", "two", "same"]))
    b = write(tmp_path / "b.json", rows(["uno", "due due", "same"]))
    assert run(a, b, "--judge-model", folder)[0] == 0
    result = result_of(a)
    for item in result["items"]:
        orders = [order["score"] for order in item["orders"]]
        assert (item["winner"] == "tie") == (min(orders) <= 0.5 <= max(orders))
        assert item["score"] == pytest.approx(sum(orders) / 2) and 0 < item["score"] < 1
    judge = ModelJudge(str(folder))
    row = json.loads(a.read_text())[1]
    task = Task(row["instruction"], row["input"], row["output"], ("due due", "two"))
    assert result["items"][1]["orders"][1]["score"] == pytest.approx(1 - spelled_out(judge, task)[0], rel=1e-4)
    assert result["items"][2]["score"] == 0.5 and result["items"][2]["winner"] == "tie"
    assert result["interval"] == bootstrap_mean([[item["score"]] for item in result["items"]])


def test_a_position_that_a_judge_prefers_makes_no_winner():
    def judged(a_first: float, b_first: float) -> str:
        answers = [Answer("A", a_first, {"probability_mass": 1.0, "truncated": False})]
        answers.append(Answer("A", b_first, {"probability_mass": 1.0, "truncated": False}))
        return summarize([[PAIR, PAIR]], [answers])["items"][0]["winner"]

    assert judged(0.52, 0.51) == "tie"  # whoever stands first
    assert judged(0.52, 0.49) == "A" and judged(0.2, 0.9) == "B"


def test_a_response_too_long_for_the_judge_loses_its_end(folder):
    judge = ModelJudge(str(folder))
    seen = []
    plain = judge._tokens
    judge._tokens = lambda text, **options: seen.append(text) or plain(text, **options)
    [(_, answer)] = judge.answers({"key": Task("Write.", "", "words", ("start " + LONG,))})
    assert answer.details["truncated"] and len(plain(seen[-1])) <= 768 - 2
    assert "start many words" in seen[-1] and seen[-1].endswith("alone.\n\n### Response:\n")
    assert len(plain(seen[-1])) > 760  # and no more than that


@pytest.mark.parametrize("chat", [True, False], ids=["chat template", "plain"])
def test_a_special_token_in_a_response_is_its_characters(tmp_path, monkeypatch, chat):
    judge = ModelJudge(str(save_model(tmp_path / "model", chat=chat)))
    read = []

    def remember(model, rows, *others):
        read.extend(rows)
        return plain(model, rows, *others)

    plain = judge_in_process.choice_probabilities
    monkeypatch.setattr(judge_in_process, "choice_probabilities", remember)
    list(judge.answers({"harmless": TASK, "not": Task("Name a number.", "", "seven", ("x<|endoftext|>y",))}))
    assert len(read) == 2 and all(judge.tokenizer.eos_token_id not in row for row in read)
    assert "x<|endoftext|>y" in "".join(judge.tokenizer.decode(row) for row in read)


def test_a_chat_template_that_raises_or_changes_the_question(run, folder, tmp_path):
    path = write(tmp_path / "responses.json", rows(["one"]))
    for template, reason in (
        ("{{ raise_exception('Only with a system message.') }}", "Only with a system message"),
        ("{{ messages[0]['content'] + 3 }}", "cannot be used with a question alone"),
        ("Hello.", "changes the question"),
    ):
        (folder / "chat_template.jinja").write_text(template)
        status, _, err = run(path, "--judge-model", folder)
        assert status == 1 and reason in err and "Traceback" not in err


def test_a_question_too_long_for_the_judge(run, tmp_path):
    folder = save_model(tmp_path / "model", positions=64)
    path = write(tmp_path / "responses.json", rows(["one"]))
    status, _, err = run(path, "--judge-model", folder)
    assert (
        status == 1
        and "has a context of 64 tokens, and the question" in err
        and not (tmp_path / "judge.json").exists()
    )


def test_a_question_too_long_among_others_is_counted(run, folder, tmp_path):
    path = write(tmp_path / "responses.json", [*rows(["one", "two"]), {**rows(["three"])[0], "instruction": LONG}])
    status, _, err = run(path, "--judge-model", folder)
    result = json.loads((tmp_path / "judge.json").read_text())
    assert (result["n_scored"], result["n_failed"]) == (2, 1) and "a context of 768 tokens" in result["items"][2][
        "error"
    ]
    assert not list(tmp_path.glob("*.partial.jsonl"))
    assert status == 1 and "1 of 3 could not be judged" in err
    card = read_card(tmp_path / "results" / "judge.json")
    assert card.metrics["score"].value == result["mean"]
    assert {name: metric.value for name, metric in card.metrics.items()}["failed_rate"] == 1 / 3
    assert card.seeds == []  # there is no chance in it


def test_what_is_no_judge(run, tmp_path, folder, tiny_config):
    path = write(tmp_path / "responses.json", rows(["one"]))
    tiny_config.num_labels = 2
    classifier, nothing, no_tokenizer = tmp_path / "classifier", tmp_path / "nothing", tmp_path / "no_tokenizer"
    GPTScratchForSequenceClassification(tiny_config).save_pretrained(classifier)
    nothing.mkdir()
    shutil.copytree(folder, no_tokenizer)
    (no_tokenizer / "tokenizer.json").unlink()
    headless = save_model(tmp_path / "headless", LlamaForCausalLM)
    LlamaForCausalLM.from_pretrained(headless).model.save_pretrained(headless)
    for judge, reason in (
        (tmp_path / "none", "There is no file or folder"),
        (nothing, "no config.json"),
        (classifier, "holds a classifier; give --judge-model a language model"),
        (no_tokenizer, "holds no tokenizer"),
        (headless, "lm_head.weight"),
    ):
        status, _, err = run(path, "--judge-model", judge)
        assert status == 1 and reason in err and "Traceback" not in err, judge


def test_a_judge_is_known_by_its_weights_and_not_its_name(folder, tmp_path):
    before = ModelJudge(str(folder)).identity
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "judge.json").write_text("{}")
    assert ModelJudge(str(tmp_path / "copy")).identity == before
    assert ModelJudge(str(folder), dtype="int8").identity == {**before, "dtype": "int8"}  # it answers otherwise
    model = GPTScratchForCausalLM.from_pretrained(folder)
    model.transformer.wte.weight.data[0, 0] += 1
    model.save_pretrained(folder)
    assert ModelJudge(str(folder)).identity != before


def test_a_judge_that_is_an_adapter_and_its_base_are_looked_up_once(folder, tmp_path, monkeypatch):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    model = peft.get_peft_model(GPTScratchForCausalLM.from_pretrained(folder), settings)
    model.peft_config["default"].base_model_name_or_path = "user/base"
    model.save_pretrained(tmp_path / "adapter")
    load_tokenizer(folder).save_pretrained(tmp_path / "adapter")
    there, asked = {"user/judge": tmp_path / "adapter", "user/base": folder}, []
    monkeypatch.setattr(contents.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(contents, "snapshot_download", lambda name, **_: asked.append(name) or there[name])
    judge = ModelJudge("user/judge")
    assert asked == ["user/judge", "user/base"]
    assert {"adapter_model.safetensors", "base/model.safetensors"} <= judge.files.keys()


def test_a_judge_takes_no_attention_from_the_hub(tmp_path):
    folder = save_model(tmp_path / "model", LlamaForCausalLM)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"_attn_implementation": "someone/kernel"}))
    with pytest.raises(InputError, match=r"code from the Hub \(attention someone/kernel\), which is never run"):
        ModelJudge(str(folder))


@pytest.mark.parametrize("takes_schema", [True, False])
def test_a_real_model_behind_a_real_server(run, folder, tmp_path, takes_schema):
    path = write(tmp_path / "responses.json", rows(["one", "two two", "three", "4"]))
    judge = ModelJudge(str(folder))
    behave = ModelBehaviour(judge.model, judge.tokenizer)

    def without_schema(body):
        return behave({name: value for name, value in body.items() if name != "response_format"})

    with judge_server(behave if takes_schema else without_schema) as server:
        status, out, err = run(path, "--base-url", server.url, "--model", "tiny", "--workers", 2)
    assert status == (0 if takes_schema else 1) and ("None of the 4 could be scored" in err) is not takes_schema
    result = result_of(path)
    bodies = {question(body): body for body in server.requests}
    assert len(bodies) == 4
    for item in result["items"]:
        [body] = [body for text, body in bodies.items() if item["instruction"] in text]
        assert (
            item["answer"]
            == json.loads((behave if takes_schema else without_schema)(body).body)["choices"][0]["message"]["content"]
        )
        if takes_schema:
            assert json.loads(item["answer"]) == {"score": item["score"]}
    assert (result["n_scored"], result["n_unparsed"]) == ((4, 0) if takes_schema else (0, 4))
