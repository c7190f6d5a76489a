"""Examples of a page are true for its model: labelled right, answered right."""

import csv
import json

import pytest

from hf_gpt_scratch.apps import examples
from hf_gpt_scratch.classification.classifier import TextClassifier


@pytest.fixture(scope="module")
def classifier(models):
    return TextClassifier.from_pretrained(models["spam"], device="cpu")


TEXTS = [
    f"{first} {second} {third}"
    for first in ("win a prize", "see you soon", "a free phone")
    for second in ("now at home", "and a free prize", "with you")
    for third in ("at six o'clock", "on Friday")
]


def labels(classifier, texts) -> dict[str, str]:
    return {one.text: one.label for one in classifier.classify(texts)}


def write_predictions(folder, rows):
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "label", "probability"], *rows])


def test_only_messages_that_the_model_gets_right_are_examples(classifier, tmp_path):
    true = labels(classifier, TEXTS)
    write_predictions(tmp_path, [[text, int(label == "spam"), 0.5] for text, label in true.items()])
    shown = examples.messages(classifier, tmp_path)
    assert 1 <= len(shown) <= 4 and all(true[text] == label for text, label in shown)

    # The same messages with the other label are all wrong, and none is shown.
    write_predictions(tmp_path, [[text, int(label == "ham"), 0.5] for text, label in true.items()])
    assert examples.messages(classifier, tmp_path) == []


def test_without_a_record_the_messages_are_chosen_by_computing(classifier, tmp_path):
    shown = examples.messages(classifier, tmp_path)
    known = {text: label for label, texts in examples.MESSAGES.items() for text in texts}
    assert shown and all(known[text] == label == labels(classifier, [text])[text] for text, label in shown)


def test_a_classifier_of_other_labels_has_no_examples_of_spam(models, tmp_path):
    classifier = TextClassifier.from_pretrained(models["spam"], device="cpu")
    classifier.model.config.id2label = {0: "negative", 1: "positive"}
    assert examples.messages(classifier, tmp_path) == []


def test_examples_that_were_saved_are_tried_too(classifier, tmp_path):
    [(text, label)] = labels(classifier, TEXTS[:1]).items()
    other = {"ham": "spam", "spam": "ham"}[label]
    examples.write(tmp_path / examples.FILE, [(text, label), (TEXTS[1], "neither"), (text, other)], ("text", "label"))
    assert examples.messages(classifier, tmp_path) == [(text, label)]


def test_messages_that_fit_no_button_are_omitted(classifier, tmp_path):
    texts = ["hi", "long " * 50]
    write_predictions(
        tmp_path, [[text, int(label == "spam"), 0.5] for text, label in labels(classifier, texts).items()]
    )
    assert examples.messages(classifier, tmp_path) == []


def row(instruction, answer, output="Yes.", input=""):
    return {"instruction": instruction, "input": input, "output": output, "model_response": answer}


RESPONSES = [
    row("Is it so?", "No."),
    row("Is water wet?", "yes"),
    row("Is water dry or so?", "Yes.", input="A text."),
    row("Is water wet, again?", "Yes."),
    row("Say yes. " * 30, "Yes."),
    row("Why?", "Because of it.", output="Since it is."),
]


def test_only_questions_that_were_answered_right_are_examples(tmp_path):
    (tmp_path / "responses.json").write_text(json.dumps(RESPONSES))
    assert examples.questions(tmp_path) == [
        ("Is water wet?", ""),
        ("Is water dry or so?", "A text."),
        ("Is water wet, again?", ""),
    ]


def test_an_answer_that_a_judge_found_good_is_right(tmp_path):
    (tmp_path / "responses.json").write_text(json.dumps(RESPONSES))
    items = [{**RESPONSES[-1], "score": 95}, {**RESPONSES[0], "score": 40}, {**RESPONSES[1], "score": None}]
    (tmp_path / "judge.json").write_text(json.dumps({"items": items}))
    assert ("Why?", "") in examples.questions(tmp_path) and ("Is it so?", "") not in examples.questions(tmp_path)


@pytest.mark.parametrize("content", ["", "[", "{}", "[]", '[{"instruction": 1}]', "[1]"])
def test_a_model_without_a_record_of_answers_has_no_examples(tmp_path, content):
    for name in ("responses.json", "judge.json", examples.FILE):
        (tmp_path / name).write_text(content)
    assert examples.questions(tmp_path) == [] and examples.takes_input(tmp_path) is None


def test_whether_a_model_was_trained_with_an_input(tmp_path):
    assert examples.takes_input(tmp_path) is None
    (tmp_path / "responses.json").write_text(json.dumps(RESPONSES[:2]))
    assert examples.takes_input(tmp_path) is False
    (tmp_path / "responses.json").write_text(json.dumps(RESPONSES))
    assert examples.takes_input(tmp_path) is True
