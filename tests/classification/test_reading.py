"""Many texts at a time: answers in order, little padding, and never many texts in memory."""

import itertools
import random

import pytest
import torch

from hf_gpt_scratch.classification import reading
from hf_gpt_scratch.classification.reading import read_ahead
from hf_gpt_scratch.pipeline_gpt_scratch import batches
from hf_gpt_scratch.utils.errors import InputError
from support.classifiers import TEXTS, make_classifier

WORDS = " ".join(TEXTS).split()


def texts_of_many_lengths(count: int, longest: int = 24) -> list[str]:
    chosen = random.Random(0)
    return [" ".join(chosen.choices(WORDS, k=chosen.randint(1, longest))) for _ in range(count)]


def count_forwards(monkeypatch, model) -> list[torch.Size]:
    """The shapes `(B, T)` of the batches that the model is given from now on."""
    shapes, forward = [], model.forward

    def counted(input_ids, **kwargs):
        shapes.append(input_ids.shape)
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    return shapes


@pytest.mark.parametrize("long_texts", ["first", "last", "windows"])
def test_answers_come_in_the_order_of_the_texts_and_are_those_of_each_alone(monkeypatch, long_texts):
    classifier = make_classifier(n_positions=20, long_texts=long_texts)
    texts = texts_of_many_lengths(60)
    assert any(len(ids) > 40 for ids in classifier.encode(texts))  # of three windows
    expected = [next(classifier.classify([text], words=True)) for text in texts]
    shapes = count_forwards(monkeypatch, classifier.model)
    for batch_size in (1, 4):
        predictions = list(classifier.classify(texts, batch_size, words=True))
        assert max(rows for rows, _ in shapes) > 2 and all(rows * tokens <= 64 * 4 for rows, tokens in shapes)
        for text, prediction, alone in zip(texts, predictions, expected, strict=True):
            assert (prediction.text, prediction.truncated) == (text, alone.truncated)
            assert prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
            assert [word.word for word in prediction.words] == [word.word for word in alone.words]
            for after, after_alone in zip(prediction.words, alone.words):
                assert after.probabilities == pytest.approx(after_alone.probabilities, abs=1e-5)
    whole = classifier.logits(texts).softmax(-1)
    torch.testing.assert_close(whole, torch.tensor([one.probabilities for one in expected]), atol=1e-5, rtol=0)


def test_a_long_text_between_short_ones_costs_its_own_tokens(monkeypatch):
    classifier = make_classifier(n_positions=64)
    texts = [" ".join(WORDS) if number % 8 == 0 else TEXTS[number % 5] for number in range(128)]
    real = sum(len(ids[:64]) for ids in classifier.encode(texts))
    shapes = count_forwards(monkeypatch, classifier.model)
    predictions = list(classifier.classify(texts))
    assert len(predictions) == 128
    assert real <= sum(shape.numel() for shape in shapes) < 1.15 * real
    assert len(shapes) < 20


@pytest.mark.parametrize("saves_padding", [True, False])
def test_batches(saves_padding):
    chosen = random.Random(1)
    lengths = [int(chosen.lognormvariate(2.7, 0.8)) + 1 for _ in range(1000)]
    found = batches(lengths, 512, saves_padding)
    assert sorted(itertools.chain(*found)) == list(range(1000))
    longest = [max(lengths[number] for number in batch) for batch in found]
    assert longest == sorted(longest)
    padded = [len(batch) * most for batch, most in zip(found, longest)]
    assert all(tokens <= 512 or len(batch) == 1 for tokens, batch in zip(padded, found))
    assert sum(padded) < (1.08 if saves_padding else 1.3) * sum(lengths)
    assert batches([], 512) == [] and batches([900, 3], 512) == [[1], [0]]


def test_texts_are_not_read_further_ahead_than_said(monkeypatch):
    monkeypatch.setattr(reading, "AT_MOST", 64)
    pulled = 0

    def endless():
        nonlocal pulled
        for text in itertools.cycle(TEXTS):
            pulled += 1
            yield text

    ahead = []
    for number, prediction in zip(range(300), make_classifier().classify(endless())):
        assert prediction.text == TEXTS[number % 5]
        ahead.append(pulled - number)
    assert ahead[0] == 32 and max(ahead) == 64


def test_long_texts_are_read_ahead_by_their_characters():
    assert [len(texts) for texts in read_ahead(["a" * 40] * 7, 100)] == [3, 3, 1]


def test_with_what_is_said_after_each_word_fewer_texts_are_read_ahead(monkeypatch):
    monkeypatch.setattr("hf_gpt_scratch.classification.classifier.MOST_CHARACTERS", 40)
    for words, ahead in (False, 4), (True, 1):  # of four labels
        texts = iter(["see you now"] * 8)
        next(make_classifier().classify(texts, words=words))
        assert len(list(texts)) == 8 - ahead


def test_a_text_that_is_refused_comes_after_the_answers_before_it():
    found = make_classifier().classify([*TEXTS, " ", "see you"])
    assert [next(found).text for _ in TEXTS] == TEXTS
    with pytest.raises(InputError, match="A message is empty"):
        next(found)
