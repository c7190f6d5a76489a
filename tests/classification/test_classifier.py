"""What a classifier of any number of labels says of texts: probabilities, labels, thresholds, outside, long texts."""

import pytest
import torch

from hf_gpt_scratch.classification.calibration import Calibration, settings
from hf_gpt_scratch.utils.errors import InputError
from support.classifiers import TEXTS, TOPICS, make_classifier

LONG = " ".join(TEXTS * 3)


def logits(classifier, ids) -> torch.Tensor:
    """The long way."""
    with torch.no_grad():
        return classifier.model(torch.tensor([ids])).logits[0]


def test_the_most_probable_of_four_labels_is_said():
    classifier = make_classifier()
    for text, prediction in zip(TEXTS, classifier.classify(TEXTS), strict=True):
        expected = logits(classifier, classifier.tokenizer(text)["input_ids"]).softmax(-1)
        assert prediction.probabilities == pytest.approx(expected.tolist(), abs=1e-6)
        assert prediction.label == TOPICS[expected.argmax()] and prediction.labels == (prediction.label,)
        assert prediction.probability == max(prediction.probabilities) and not prediction.is_outside
    assert len({prediction.label for prediction in classifier.classify(TEXTS)}) > 1


def test_temperature_and_shift_of_four_labels():
    shift = [0.5, -1.0, 0.0, 2.0]
    classifier = make_classifier(calibration={"temperature": 0.5, "shift": shift})
    [prediction] = classifier.classify([TEXTS[0]])
    expected = (logits(classifier, classifier.encode([TEXTS[0]])[0]) / 0.5 + torch.tensor(shift)).softmax(-1)
    assert prediction.probabilities == pytest.approx(expected.tolist(), abs=1e-6)


def test_two_labels_are_as_before():
    classifier = make_classifier(("ham", "spam"), calibration={"temperature": 2.0, "shift": 0.3, "threshold": 0.6})
    for text, prediction in zip(TEXTS, classifier.classify(TEXTS), strict=True):
        ham, spam = logits(classifier, classifier.encode([text])[0]).tolist()
        expected = torch.tensor((spam - ham) / 2.0 + 0.3).sigmoid().item()
        assert prediction.probability == pytest.approx(expected, abs=1e-6) == prediction.probabilities[1]
        assert sum(prediction.probabilities) == pytest.approx(1)
        assert prediction.label == ("spam" if expected > 0.6 else "ham")
        assert classifier.word_probabilities(text)[-1][1] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="4 labels; `read_words`"):
        make_classifier().word_probabilities("see you")


EACH = [0.9, 0.3, 0.4, 0.34]
OUTSIDE = {
    "an outside threshold": ({"outside_threshold": 0.35}, lambda p: max(p) <= 0.35),
    "a threshold a label": ({"threshold": EACH}, lambda p: max(p) <= EACH[p.index(max(p))]),
}


@pytest.mark.parametrize("calibration, is_outside", OUTSIDE.values(), ids=OUTSIDE)
def test_a_text_of_none_of_the_topics_is_outside(calibration, is_outside):
    classifier = make_classifier(calibration={**calibration, "outside_label": "none of ours"})
    plain = make_classifier()
    predictions = list(classifier.classify(TEXTS))
    assert len({prediction.is_outside for prediction in predictions}) == 2
    for prediction, before in zip(predictions, plain.classify(TEXTS)):
        assert prediction.probabilities == before.probabilities and prediction.probability == before.probability
        assert prediction.is_outside == is_outside(before.probabilities)
        assert prediction.label == ("none of ours" if prediction.is_outside else before.label)
        assert prediction.labels == (() if prediction.is_outside else (before.label,))
        assert classifier.read_words(prediction.text)[-1].label == prediction.label


@pytest.mark.parametrize("threshold", [None, 0.45, [0.3, 0.5, 0.6, 0.5]])
def test_several_labels_a_text(threshold):
    calibration = {} if threshold is None else {"threshold": threshold}
    classifier = make_classifier(problem_type="multi_label_classification", calibration=calibration)
    bounds = threshold if isinstance(threshold, list) else [threshold or 0.5] * 4
    counts = set()
    for text, prediction in zip(TEXTS, classifier.classify(TEXTS)):
        expected = logits(classifier, classifier.encode([text])[0]).sigmoid().tolist()
        assert prediction.probabilities == pytest.approx(expected, abs=1e-6)
        said = [name for name, value, bound in zip(TOPICS, expected, bounds) if value > bound]
        assert list(prediction.labels) == said
        assert prediction.label == (max(said, key=lambda name: expected[TOPICS.index(name)]) if said else "outside")
        counts.add(len(said))
    assert len(counts) > 1


@pytest.mark.parametrize("text", [*TEXTS, "  see   you\tat home "])
@pytest.mark.parametrize("kind", ["first", "windows"])
def test_what_is_said_after_a_word_is_what_is_said_of_the_text_up_to_there(text, kind):
    classifier = make_classifier(n_positions=4 if kind == "windows" else 32, long_texts=kind)
    readings, text, read = classifier.read_words(text), text.strip(), ""
    assert "".join(reading.word for reading in readings) == text
    for reading in readings:
        read += reading.word
        [expected] = classifier.classify([read])
        assert reading.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
        assert (reading.label, reading.labels) == (expected.label, expected.labels)
        assert reading.confidence == pytest.approx(max(reading.probabilities), abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_is_read_of_a_long_text(batch_size):
    ids = make_classifier().encode([LONG])[0]
    assert len(ids) > 3 * 32
    cut = {"first": [ids[:32]], "last": [ids[-32:]], "windows": [ids[at : at + 32] for at in range(0, len(ids), 32)]}
    assert len(cut["windows"][-1]) < 32
    for long_texts, windows in cut.items():
        classifier = make_classifier(long_texts=long_texts)
        expected = sum(len(window) * logits(classifier, window) for window in windows) / sum(map(len, windows))
        short, long, _ = classifier.classify(["see you", LONG, "my parcel"], batch_size)
        assert long.probabilities == pytest.approx(expected.softmax(-1).tolist(), abs=1e-5)
        assert (short.truncated, long.truncated) == (False, long_texts != "windows")
        torch.testing.assert_close(classifier.logits(["see you", LONG])[1], expected, atol=1e-5, rtol=0)
        words = classifier.read_words(LONG)
        assert words[-1].probabilities == pytest.approx(long.probabilities, abs=1e-5)
        shown = "".join(word.word for word in words)
        assert {"first": LONG.startswith(shown), "last": LONG.endswith(shown), "windows": shown == LONG}[long_texts]
        assert 5 < len(words) < len(LONG.split()) or long_texts == "windows"


def test_an_early_verdict():
    classifier = make_classifier(calibration={"early": {"0.99": {"threshold": 0.565}}})
    predictions, undecided = list(classifier.classify(TEXTS, decide_at=0.99)), 0
    for prediction in predictions:
        confident = [n for n, one in enumerate(classifier.read_words(prediction.text), 1) if one.confidence > 0.565]
        assert prediction.decided_at == (confident[0] if confident else None)
        if confident:
            assert prediction.decided_label == classifier.read_words(prediction.text)[confident[0] - 1].label
        else:
            undecided += 1
    assert 0 < undecided < len(predictions)
    with pytest.raises(InputError, match="No early verdict was fitted for an agreement of 0.5; the model has 0.99"):
        list(classifier.classify(TEXTS, decide_at=0.5))


def test_outside_is_never_said_early():
    calibration = Calibration(outside_threshold=0.5, threshold=None)
    probabilities = torch.tensor([[0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    assert calibration.confidence(probabilities).tolist() == pytest.approx([0, 0.8])
    several = Calibration(is_multi_label=True)
    assert several.confidence(torch.tensor([[0.9, 0.2], [0.1, 0.4]])).tolist() == pytest.approx([0.8, 0.6])


def test_a_calibration_is_kept_without_what_it_has_not():
    assert settings(Calibration(2.0, 0.5, 0.9)) == {"temperature": 2.0, "shift": 0.5, "threshold": 0.9}
    full = Calibration(1.0, [0.0] * 4, [0.5] * 4, 0.3, "none", {"0.9": {"threshold": 0.8}})
    config = make_classifier(calibration=settings(full)).model.config
    assert Calibration.of(config) == full


def test_one_label_is_no_classifier():
    with pytest.raises(InputError, match="two or more"):
        make_classifier(("price",))
