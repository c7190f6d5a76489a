"""The demo's spam filter: the messages it learns from, and what it says to those that anyone would try."""

import re
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.data.sms_spam import Messages, load_messages, normalize

TRAINING = Path(__file__).parents[2] / "training"


@pytest.fixture(scope="module")
def demo():
    sys.path.insert(0, str(TRAINING))
    try:
        import demo
    finally:
        sys.path.remove(str(TRAINING))
    return demo


@pytest.fixture(scope="module")
def messages(demo) -> Messages:
    return load_messages(demo.MESSAGES)


@pytest.fixture(scope="module")
def obvious(demo) -> Messages:
    return load_messages(demo.OBVIOUS_MESSAGES)


def overlap(a: str, b: str) -> float:
    """The share of two messages' different words that both have."""
    a, b = set(normalize(a).split()), set(normalize(b).split())
    return len(a & b) / len(a | b)


def test_the_obvious_messages_are_not_among_those_it_learns_from(messages, obvious):
    assert obvious.labels == [1] * 10 + [0] * 10
    for text in obvious.texts:
        nearest = max(messages.texts, key=lambda other: overlap(text, other))
        assert overlap(text, nearest) < 0.6, (text, nearest)
        assert not any(normalize(text) in normalize(other) for other in messages.texts)


def test_the_messages_are_many_different_and_of_both_labels(messages):
    assert len(messages.texts) == len({normalize(text) for text in messages.texts}) > 2500
    assert 0.35 < sum(messages.labels) / len(messages.labels) < 0.5
    words = [frozenset(normalize(text).split()) for text in messages.texts]
    near = [
        (a, b) for i, a in enumerate(words) for b in words[:i] if len(a & b) >= 3 and len(a & b) >= 0.7 * len(a | b)
    ]
    assert not near


def test_they_hold_no_address_or_number_of_anyone(messages, obvious):
    for text in [*messages.texts, *obvious.texts]:
        for address in re.findall(r"\b[\w-]+\.(?:com|net|org|co|uk|info|biz|io|ly|example)\b", text):
            assert address.endswith(".example"), text
        for number in re.findall(r"\+?\d[\d -]{8,}\d", text):
            assert re.match(r"0906 555|07700 900|01632 960", number), text  # set apart for fiction, or not in use


def test_none_of_them_is_in_the_sms_spam_collection(messages, shared_data):
    theirs = {normalize(text) for text in load_messages(shared_data / "sms_spam" / "SMSSpamCollection").texts}
    assert not [text for text in messages.texts if normalize(text) in theirs]


def test_a_short_run_says_what_it_thinks_of_the_obvious_messages(demo, obvious, tmp_path, capsys):
    demo.train_classifier(tmp_path / "spam", 1, 123)
    answers = demo.obvious_messages(tmp_path / "spam")
    assert [text for text, _, _ in answers] == obvious.texts
    assert [label for _, label, _ in answers] == ["spam"] * 10 + ["ham"] * 10
    classifier = TextClassifier.from_pretrained(tmp_path / "spam")
    assert [read.probability for read in classifier.classify(obvious.texts)] == [p for _, _, p in answers]
    assert sum((probability > 0.5) == (label == "spam") for _, label, probability in answers) >= 14


@pytest.mark.slow
@pytest.mark.parametrize("seed", [123, 4, 5, 6])
def test_it_gets_every_obvious_message_right_and_is_near_a_linear_model(demo, seed, tmp_path):
    folder = tmp_path / "spam"
    metrics = demo.train_classifier(folder, demo.make_parser().get_default("spam_epochs"), seed)
    for text, label, probability in demo.obvious_messages(folder):
        assert (probability > 0.55) if label == "spam" else (probability < 0.45), (text, probability)
    assert metrics["f1"] > metrics["baseline"]["f1"] - 0.06  # 0.045, 0.028 and 0.037 below it with seeds 4, 5 and 6
    assert metrics["test_rows_with_a_near_copy_in_train"] == 0
