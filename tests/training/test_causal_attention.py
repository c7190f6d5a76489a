"""Attention with dropout on a CPU: the plain way's results and gradients for the same dropped weights."""

import pytest
import torch
from torch.nn import functional as F

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.training import causal_attention as attention


def padded(batch_size: int, length: int) -> torch.Tensor:
    """A mask of rows of which the second ends in padding, `(B, 1, T, T)`, as transformers makes it for "sdpa"."""
    mask = torch.ones(batch_size, 1, length, length, dtype=torch.bool).tril()
    mask[1, :, :, -3:] = False
    return mask


def by_the_plain_way(query, key, value, mask, keep, scaling):
    length = query.shape[2]
    seen = torch.ones(length, length, dtype=torch.bool).tril() if mask is None else mask
    weights = (query @ key.transpose(2, 3) * scaling).masked_fill(~seen, -torch.inf).softmax(-1)
    return (weights * keep) @ value


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("length", [5, 8, 21])
@pytest.mark.parametrize("has_mask", [False, True])
def test_equals_the_plain_way_for_the_same_dropped_weights(dtype, tolerance, length, has_mask, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 8)
    drawn, draw = [], attention.random_keep_mask
    monkeypatch.setattr(attention, "random_keep_mask", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    torch.manual_seed(0)
    states = [torch.randn(2, length, 12, dtype=dtype).requires_grad_() for _ in range(3)]

    def heads(states):  # (B, T, C) -> (B, n_head, T, head_dim)
        return [one.view(2, length, 3, 4).transpose(1, 2) for one in states]

    mask = padded(2, length) if has_mask else None
    attended = attention.causal_attention(*heads(states), mask, dropout=0.3, scaling=0.4)
    seed = torch.randn_like(attended)
    found = [attended, *torch.autograd.grad(attended, states, seed)]
    keep = torch.zeros(6, length, length)
    for number, (block, scale) in enumerate(drawn):
        keep[:, 8 * number : 8 * number + block.shape[1], : block.shape[2]] = block * scale
    exact = [one.detach().float().requires_grad_() for one in states]
    attended = by_the_plain_way(*heads(exact), mask, keep.view(2, 3, length, length), 0.4)
    expected = [attended, *torch.autograd.grad(attended, exact, seed.float())]
    for one, other in zip(found, expected):
        torch.testing.assert_close(one.float(), other, atol=tolerance, rtol=tolerance)


def test_without_dropout_it_is_torchs_own():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 9, 4).requires_grad_() for _ in range(3))
    attended = attention.causal_attention(query, key, value)
    assert torch.equal(attended, F.scaled_dot_product_attention(query, key, value, is_causal=True))
    with torch.no_grad():  # dropout here as well
        assert not torch.equal(attention.causal_attention(query, key, value, dropout=0.5), attended)


def gradients(model, attention, **batch) -> list[torch.Tensor]:
    torch.manual_seed(1)
    model.set_attn_implementation(attention)
    model.zero_grad()
    model(**batch).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("positions", [None, [0, 1, 2, 0, 1, 2, 3, 4]])
def test_a_model_has_the_gradients_of_sdpa(tiny_config, positions):
    tiny_config.attn_pdrop = 0.2
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(tiny_config).train()
    ids = torch.randint(1, 100, (1, 8))
    batch = {"input_ids": ids, "labels": ids, "position_ids": torch.tensor([positions]) if positions else None}
    tiny_config.attn_pdrop = 1e-9  # nothing is dropped: the same gradients
    expected = gradients(model, "sdpa", **batch)
    torch.testing.assert_close(gradients(model, attention.NAME, **batch), expected, atol=1e-6, rtol=1e-5)
    tiny_config.attn_pdrop = 0.2
    assert not torch.equal(gradients(model, attention.NAME, **batch)[-3], expected[-3])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_blocks_drop_the_same_again(tiny_config, use_reentrant):
    tiny_config.attn_pdrop = 0.3
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(tiny_config).train()
    ids = torch.randint(1, 100, (2, 9))
    expected = gradients(model, attention.NAME, input_ids=ids, labels=ids)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    found = gradients(model, attention.NAME, input_ids=ids, labels=ids)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_only_sdpa_is_replaced(tiny_config):
    model = GPTScratchForCausalLM(tiny_config)
    attention.use_dropout_attention(model)
    assert model.config._attn_implementation == attention.NAME
    assert attention.NAME not in model.config.to_json_string()
    model.set_attn_implementation("eager")
    attention.use_dropout_attention(model)
    assert model.config._attn_implementation == "eager"
