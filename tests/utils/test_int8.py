"""Models of int8 linear layers: close to the model they were made of, and the same for a text in any batch."""

import copy

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.utils import int8
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.int8 import Int8Linear, quantize_linears


@pytest.fixture
def quantized(tiny_config):
    """A model of a class and its copy of int8."""

    def quantized(model_class=GPTScratchForCausalLM):
        torch.manual_seed(0)
        model = model_class(tiny_config).eval()
        quantize_linears(changed := copy.deepcopy(model))
        return model, changed

    return quantized


def test_a_layer_is_the_product_of_the_rounded_numbers():
    torch.manual_seed(0)
    layer = nn.Linear(40, 24)
    given = torch.randn(2, 3, 40)
    given[0, 0] = 0
    rounded = [
        (rows / rows.abs().amax(-1, keepdim=True).clamp(min=1e-30) * 127).round() for rows in (given, layer.weight)
    ]
    scales = [rows.abs().amax(-1, keepdim=True) / 127 for rows in (given, layer.weight)]
    expected = rounded[0] @ rounded[1].t() * scales[0] * scales[1].t() + layer.bias
    found = Int8Linear(layer)(given)
    torch.testing.assert_close(found, expected)
    assert (found - layer(given)).norm() < 0.01 * layer(given).norm()
    assert torch.equal(found[0, 0], layer.bias)
    layer.weight.data = layer.weight.data.t().contiguous().t()
    assert torch.equal(Int8Linear(layer)(given), found) and Int8Linear(layer).weight.is_contiguous()


def test_every_linear_layer_but_a_classifiers_head(quantized):
    _, writer = quantized()
    assert not any(type(module) is nn.Linear for module in writer.modules())
    _, classifier = quantized(GPTScratchForSequenceClassification)
    assert [name for name, module in classifier.named_modules() if type(module) is nn.Linear] == ["score"]


def test_logits_stay_close_and_the_embedding_as_it_was(quantized, tiny_config):
    model, changed = quantized()
    ids = torch.randint(100, (2, 20))
    with torch.no_grad():
        expected, found = model(ids).logits, changed(ids).logits
    assert 0 < (found - expected).norm() < 0.03 * expected.norm()
    assert torch.equal(changed.transformer.wte.weight, model.transformer.wte.weight)
    assert changed.num_parameters() == model.num_parameters() and changed.dtype == torch.float32


def test_a_text_does_not_depend_on_its_batch_or_on_a_cache(quantized):
    _, changed = quantized()
    short, long = torch.randint(1, 100, (1, 6)), torch.randint(1, 100, (1, 20))
    padded = torch.cat([torch.zeros(1, 14, dtype=torch.long), short], dim=1)
    mask = torch.cat([(padded > 0).long(), torch.ones_like(long)])
    with torch.no_grad():
        alone = changed(short).logits
        beside = changed(torch.cat([padded, long]), attention_mask=mask).logits[:1, -6:]
        read = changed(short[:, :4], use_cache=True)
        step = changed(short[:, 4:], past_key_values=read.past_key_values).logits
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(step, alone[:, 4:], rtol=0, atol=1e-5)
    greedy = GenerationConfig(max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert changed.generate(short, generation_config=greedy).shape == (1, 11)


def test_it_is_not_saved(quantized, tmp_path):
    _, changed = quantized()
    for save in changed.save_pretrained, changed.push_to_hub:
        with pytest.raises(InputError, match="An int8 model is for use only and cannot be saved"):
            save(str(tmp_path / "model"))
    assert not list(tmp_path.iterdir())


def test_it_is_not_trained(quantized):
    _, changed = quantized()
    ids = torch.randint(100, (1, 8))
    with pytest.raises(RuntimeError, match="does not require grad"):
        changed.train()(ids, labels=ids).loss.backward()


def test_asking_whether_int8_is_fast_draws_nothing():
    int8.is_fast.cache_clear()
    torch.manual_seed(0)
    int8.is_fast()
    found = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1).equal(found)


def test_a_cpu_with_inexact_products_is_refused(quantized, monkeypatch):
    monkeypatch.setattr(torch, "_int_mm", lambda left, right: (left.float() @ right.float()).clamp(min=-32768).int())
    int8.is_exact.cache_clear()
    with pytest.raises(InputError, match="computes int8 products inexactly"):
        quantized()
    int8.is_exact.cache_clear()
