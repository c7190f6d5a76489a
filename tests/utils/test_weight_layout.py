"""The layout of weights for writing token by token changes neither numbers nor what is saved."""

import pytest
import torch
from torch import nn

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.pretrained import load_with_tokenizer
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.int8 import quantize_linears
from hf_gpt_scratch.utils.weight_layout import lay_out_by_input


def is_by_input(model) -> bool:
    weights = [module.weight for module in model.modules() if type(module) is nn.Linear]
    return bool(weights) and all(weight.stride() == (1, weight.shape[0]) for weight in weights)


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_numbers_and_what_is_saved_stay(tiny_config, tmp_path, is_tied):
    tiny_config.tie_word_embeddings = is_tied
    model = GPTScratchForCausalLM(tiny_config).eval()
    ids = torch.randint(100, (2, 9))
    expected, before = model(ids).logits, {name: one.clone() for name, one in model.state_dict().items()}
    lay_out_by_input(model)
    assert is_by_input(model) and (model.lm_head.weight is model.transformer.wte.weight) == is_tied
    assert torch.allclose(model(ids).logits, expected, atol=1e-5)
    model.save_pretrained(tmp_path)
    assert not is_by_input(model)
    saved = GPTScratchForCausalLM.from_pretrained(tmp_path).state_dict()
    assert saved.keys() == before.keys() and all(saved[name].equal(before[name]) for name in before)
    lay_out_by_input(model)
    model.save_pretrained(tmp_path)  # a second time


def test_a_language_model_on_a_cpu_is_loaded_so(tiny_config, tmp_path):
    tiny_config.vocab_size = 300
    GPTScratchForCausalLM(tiny_config).save_pretrained(tmp_path)
    train_tokenizer(["some words"], 300).save_pretrained(tmp_path)
    assert is_by_input(load_with_tokenizer(GPTScratchForCausalLM, tmp_path, device="cpu")[0])
    half, _ = load_with_tokenizer(GPTScratchForCausalLM, tmp_path, device="cpu", dtype="bf16")
    assert not is_by_input(half)


@pytest.mark.parametrize("model_class", [GPTScratchForCausalLM, GPTScratchForSequenceClassification])
def test_an_int8_model_still_refuses_to_be_saved(tiny_config, tmp_path, model_class):
    model = model_class(tiny_config).eval()
    quantize_linears(model)  # but not a classifier's head
    lay_out_by_input(model)
    with pytest.raises(InputError, match="cannot be saved"):
        model.save_pretrained(tmp_path)
