"""The texts of the test set in a model card: a push tells of them and can leave them out. The rows of its tables."""

import argparse
import json
from pathlib import Path

import pytest

from hf_gpt_scratch.commands.push import _print_next
from hf_gpt_scratch.hub import push
from hf_gpt_scratch.hub.model_card import make_card, texts_shown
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils.result_card import Metric, ResultCard

CLASSIFIER = {
    "architectures": ["GPTScratchForSequenceClassification"],
    "custom_pipelines": {"text-classification": {"impl": "pipeline_gpt_scratch.GPTScratchTextClassificationPipeline"}},
}
TEXTS = {"spam": "Call now", "topics": "Charged twice", "instruct": "A number?"}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


def write(folder: Path, kind: str) -> Path:
    """A folder of that kind with what a training records, its two test texts among it."""
    if kind == "instruct":
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
        row = {"input": "", "output": "2", "model_response": "2", "finish_reason": "stop"}
        rows = [{**row, "instruction": text} for text in (TEXTS[kind], "Another?")]
        (folder / "responses.json").write_text(json.dumps(rows))
        config = {"architectures": ["GPTScratchForCausalLM"]}
    else:
        names = {"spam": ("ham", "spam"), "topics": ("account", "delivery", "billing")}[kind]
        config = {**CLASSIFIER, "id2label": dict(enumerate(names))}
        first, second = ("0.9,0.1", "0.1,0.9") if kind == "spam" else ("0.9,0.05,0.05", "0.05,0.05,0.9")
        head = ",".join(f"probability: {name}" for name in names)
        rows = f"See you,{names[0]},{first}\n{TEXTS[kind]},{names[-1]},{second}\n"
        (folder / "predictions.csv").write_text(f"text,label,{head}\n{rows}")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt_scratch", "n_positions": 64, **config}))
    return folder


@pytest.mark.parametrize("kind", TEXTS)
def test_a_card_can_do_without_texts_of_the_test_set(folder, kind):
    shown = texts_shown(write(folder, kind))
    assert len(shown) == 2 and TEXTS[kind] in shown
    with_them, without = (make_card(folder, "user/a", examples=examples) for examples in (True, False))
    assert TEXTS[kind] in str(with_them) and "widget" in with_them.data.to_dict()
    assert not any(text in str(without) for text in shown) and "widget" not in without.data.to_dict()


@pytest.mark.parametrize("readme, examples, notes", [(None, True, 1), (None, False, 0), ("By hand.", True, 0)])
def test_texts_in_the_card_are_told_before_the_upload(folder, monkeypatch, readme, examples, notes):
    write(folder, "topics")
    if readme:
        (folder / "README.md").write_text(readme)
    monkeypatch.setattr(push, "check_model", lambda *_: [])
    monkeypatch.setattr(push, "_record_logits", lambda _: None)
    monkeypatch.setattr(push, "upload_files", lambda model: {path.name: path for path in model.path.glob("README.md")})
    said = []
    files = push.checked_files(folder, "user/a", report=said.append, examples=examples)
    expected = "note: The model card shows texts of the test set: 2. Leave them out with --no-examples (in Python"
    assert sum(line.startswith(expected) for line in said) == notes
    assert not isinstance(files["README.md"], bytes) or (b"Charged twice" in files["README.md"]) == examples


def test_the_next_step_after_a_push_has_a_text_of_the_card(folder, capsys):
    write(folder, "topics")
    for examples, text in ((True, "Charged twice"), (False, "A message to classify")):
        arguments = argparse.Namespace(dir=str(folder), repo_id="user/a", examples=examples)
        _print_next(arguments, "AutoModelForSequenceClassification")
        assert capsys.readouterr().out == f"Next: hf-gpt-scratch classify user/a '{text}'\n"


def test_an_early_verdict_is_named_by_what_was_asked_for(folder):
    words = {name: {"words_read": Metric(0.9)} for name in ("for 0.9", "the whole text")}
    data = [{"source": "tickets.csv", "sha256": "ab" * 32}]
    card = ResultCard("text classification early verdict", "p", data, {"words_read": Metric(0.7)}, "c", {})
    card.baselines.update(words)
    card.write(write(folder, "topics"), "early")
    section = str(make_card(folder, "user/a")).split("### Text classification early verdict")[1].split("###")[0]
    assert "for 0.99" in section and "this model" not in section
