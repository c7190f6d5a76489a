"""Dropout on a CPU: the rate, the expected value, the gradient, and what a seed decides."""

import pytest
import torch

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.modeling_gpt_scratch import ByteMaskDropout, random_keep_mask


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_rate_is_that_asked_for_and_the_expected_value_stays(probability):
    torch.manual_seed(0)
    keep, scale = random_keep_mask((401, 999), probability)  # an odd number of them
    assert keep.shape == (401, 999) and keep.dtype == torch.bool
    deviation = (probability * (1 - probability) / keep.numel()) ** 0.5
    assert keep.float().mean().item() == pytest.approx(1 - probability, abs=4 * deviation)
    dropped = round(probability * 65536) / 65536
    assert scale * (1 - dropped) == pytest.approx(1, abs=1e-12)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = ~random_keep_mask((400_000,), 0.25)[0].view(-1, 4)
    for step in (1, 2, 3):
        both = (dropped[:, 0] & dropped[:, step]).float().mean().item()
        assert both == pytest.approx(0.25**2, abs=0.004)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_scaled_and_so_is_its_gradient(dtype):
    torch.manual_seed(0)
    inputs = torch.randn(40, 33).to(dtype).requires_grad_()  # drawn in bf16, some would be zero before
    outputs = ByteMaskDropout(0.25).train()(inputs)
    (gradient,) = torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))
    kept = outputs != 0
    torch.testing.assert_close(outputs, torch.where(kept, inputs / 0.75, 0))
    torch.testing.assert_close(gradient, torch.where(kept, 1 / 0.75, 0.0).to(dtype))
    assert outputs.dtype == gradient.dtype == dtype


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_nothing_or_everything_is_dropped_at_the_ends(probability):
    inputs = torch.ones(3, 5)
    assert torch.equal(ByteMaskDropout(probability).train()(inputs), inputs * (1 - probability))
    assert torch.equal(ByteMaskDropout(probability).eval()(inputs), inputs)


def test_where_nothing_is_dropped_nothing_is_drawn_or_copied():
    inputs, state = torch.ones(3, 5), torch.get_rng_state()
    assert ByteMaskDropout(0.0).train()(inputs) is ByteMaskDropout(0.5).eval()(inputs) is inputs
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_decides_and_checkpointed_blocks_drop_the_same_again(tiny_config):
    settings = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.3)
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(GPTScratchConfig(**{**tiny_config.to_dict(), **settings})).train()
    ids = torch.randint(1, 100, (2, 9))

    def gradients(seed):
        torch.manual_seed(seed)
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    plain = gradients(1)
    torch.testing.assert_close(gradients(1), plain, atol=0, rtol=0)
    assert any(not torch.equal(one, other) for one, other in zip(gradients(2), plain))
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(gradients(1), plain, atol=1e-7, rtol=1e-6)
