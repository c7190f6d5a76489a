"""Which tokens end and begin a text, on tokenizers of other projects."""

import pytest
from transformers import GenerationConfig

from hf_gpt_scratch import GPTScratchConfig
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.special_tokens import beginning, end_token_ids, text_ids
from support.beginning_tokenizers import BOS, END, with_bos

TEXTS = ["a few words"] * 5


@pytest.mark.parametrize(
    "config, generation, tokenizer, ends",
    [
        (None, None, False, []),
        (5, None, False, [5]),
        ([5, 6], None, False, [5, 6]),
        (5, 6, False, [6]),  # as `generate` has it
        (None, [6, 7], False, [6, 7]),
        (None, None, True, [0]),
        (5, [6, 5], True, [6, 5, 0]),
        (5, 5, True, [0]),  # an ordinary token that only a default names
        ([0, 5], [0, 5], True, [0, 5]),
        (1, 1, True, [1, 0]),  # a special one
        (50256, None, True, [0]),
        (50256, 50256, False, []),  # beyond the vocabulary
        (0, [0, 50256], True, [0]),
    ],
)
def test_the_ends_of_a_text(config, generation, tokenizer, ends):
    settings = GPTScratchConfig(vocab_size=300, n_embd=8, n_head=1, n_layer=1, eos_token_id=config)
    own = train_tokenizer(TEXTS, 300) if tokenizer else None
    assert end_token_ids(settings, GenerationConfig(eos_token_id=generation), own) == ends


@pytest.mark.parametrize("adds_eos", [False, True])
@pytest.mark.parametrize("bos", [BOS, END])
def test_a_text_begins_with_one_bos_and_no_eos_follows(adds_eos, bos):
    tokenizer = with_bos(TEXTS, adds_eos=adds_eos, bos=bos)
    words = tokenizer("few words", add_special_tokens=False)["input_ids"]
    begins = [tokenizer.bos_token_id]
    assert beginning(tokenizer) == begins
    assert text_ids(tokenizer, "few words") == begins + words == text_ids(tokenizer, f"{bos}few words")
    assert text_ids(tokenizer, "") == begins
    typed = text_ids(tokenizer, f"{bos}few words", split_special_tokens=True)
    assert typed[:1] == begins and tokenizer.bos_token_id not in typed[1:] and typed[-len(words) :] == words


def test_other_tokenizers_begin_with_nothing():
    plain = train_tokenizer(TEXTS, 300)
    assert beginning(plain) == [] and text_ids(plain, "") == []
    assert text_ids(plain, "few words") == plain("few words")["input_ids"]
    assert text_ids(plain, END) == [0]  # which is its BOS token too
