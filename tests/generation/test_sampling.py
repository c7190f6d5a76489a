"""The sampling loop agrees with `generate`; scores after each word agree with the classifier on that prefix."""

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.generation.sampling import choose_tokens, sample
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError

PROMPT = torch.tensor([[5, 17, 42, 8]])


@pytest.fixture
def lm(tiny_config):
    torch.manual_seed(0)
    tiny_config.initializer_range = 0.2  # makes some tokens far likelier than others
    return GPTScratchForCausalLM(tiny_config).eval()


def test_greedy_sampling_is_greedy_generation(lm):
    expected = lm.generate(PROMPT, max_new_tokens=12, do_sample=False)[0, 4:].tolist()
    tokens = list(sample(lm, PROMPT, 12, temperature=0))
    assert tokens == [token for token in expected if token != lm.config.eos_token_id]


@torch.no_grad()
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"top_k": 5},
        {"top_p": 0.6},
        {"top_k": 8, "top_p": 0.8},
        {"temperature": 0.5},
        {"top_k": 1000},
        {"top_p": 1.0},
    ],
)
def test_the_next_token_follows_the_distribution_that_generate_samples_from(lm, filters):
    settings = {"do_sample": True, "max_new_tokens": 1, "return_dict_in_generate": True, "output_scores": True}
    filters_of_generate = {"top_k": 0, **filters}
    expected = lm.generate(PROMPT, **settings, **filters_of_generate).scores[0][0].softmax(-1)
    generator = torch.Generator().manual_seed(0)
    lm.generation_config.eos_token_id = lm.config.eos_token_id = None
    first = next(sample(lm, PROMPT, 1, generator=generator, **filters))
    generator.manual_seed(0)
    logits = lm(PROMPT).logits[:, -1].expand(4000, -1)
    draws = choose_tokens(logits, generators=[generator] * len(logits), **filters)
    assert draws[0] == first
    frequencies = torch.bincount(draws, minlength=100) / len(draws)
    assert set(draws.tolist()) <= set(expected.nonzero().flatten().tolist())
    torch.testing.assert_close(frequencies, expected, atol=0.03, rtol=0)


def test_sampling_stops_at_the_end_token_and_restores_the_mode(lm):
    first = next(sample(lm, PROMPT, 1, temperature=0))
    lm.generation_config.eos_token_id = [99, first]
    lm.train()
    assert list(sample(lm, PROMPT, 12, temperature=0)) == []
    assert lm.training


@pytest.fixture
def classifier(tiny_config):
    tokenizer = train_tokenizer(["win a free prize now", "see you at home", "call me later"] * 5, 300)
    tiny_config.vocab_size, tiny_config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    tiny_config.id2label = {0: "ham", 1: "spam"}
    tiny_config.initializer_range = 0.2
    torch.manual_seed(0)
    return TextClassifier(GPTScratchForSequenceClassification(tiny_config), tokenizer)


MESSAGES = ["win a free prize", "see you", "héllo  there 😀 friend", "a"]


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_a_message_has_the_same_probability_in_any_batch(classifier, padding_side, batch_size):
    classifier.tokenizer.padding_side = padding_side
    together = list(classifier.classify(MESSAGES, batch_size))
    for text, prediction in zip(MESSAGES, together):
        alone = next(classifier.classify([text]))
        assert prediction.probability == pytest.approx(alone.probability, abs=1e-5)
        assert prediction.label == ("spam" if prediction.probability > 0.5 else "ham")
        assert not prediction.truncated


@pytest.mark.parametrize("text", MESSAGES)
def test_the_score_after_a_word_is_that_of_the_message_up_to_there(classifier, text):
    words = classifier.word_probabilities(text)
    assert "".join(word for word, _ in words) == text
    read = ""
    for word, probability in words:
        read += word
        assert probability == pytest.approx(next(classifier.classify([read])).probability, abs=1e-5)


def test_a_long_message_is_cut_and_said_to_be(classifier):
    text = "win a free prize now " * 30
    prediction = next(classifier.classify([text]))
    words = classifier.word_probabilities(text)
    assert prediction.truncated
    assert 0 < len(words) < len(text.split())
    assert words[-1][1] == pytest.approx(prediction.probability, abs=1e-5)


def test_an_empty_message_is_refused(classifier):
    with pytest.raises(InputError, match="empty"):
        list(classifier.classify(["fine", "  "]))


@pytest.mark.parametrize("generators", [None, [torch.Generator()]])
def test_scores_that_are_no_numbers_are_refused(generators):
    logits = torch.tensor([[1.0, torch.nan, 0.0]])
    with pytest.raises(InputError, match="no numbers"):
        choose_tokens(logits, generators=generators)
