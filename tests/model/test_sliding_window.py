"""A model with a sliding window computes what a plain implementation of it does, token by token, and keeps no more."""

import pytest
import torch
from torch.nn import functional as F

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from support.checkpoints import random_weights

TYPES = {
    "all": ["sliding_attention"] * 3,
    "two of three": ["sliding_attention", "sliding_attention", "full_attention"],
    "the last": ["full_attention", "full_attention", "sliding_attention"],
}
IDS = torch.randint(40, (2, 20), generator=torch.Generator().manual_seed(0))


def make(types: list[str], window: int = 4, **settings) -> GPTScratchForCausalLM:
    shape = {"vocab_size": 40, "n_positions": 32, "n_embd": 16, "n_layer": 3, "n_head": 2}
    special = {"bos_token_id": None, "eos_token_id": None}
    config = GPTScratchConfig(**shape, **special, sliding_window=window, layer_types=types, **settings)
    return random_weights(GPTScratchForCausalLM(config))


def by_hand(model: GPTScratchForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """The logits `(T, V)` of one row `(T,)`; each token's attention is a sum over the tokens that it sees."""
    config, body = model.config, model.transformer
    x = body.wte.weight[ids] + body.wpe.weight[: len(ids)]
    for block, kind in zip(body.h, config.layer_types):
        y = block.ln_1(x)
        query, key, value = (
            getattr(block.attn, f"{name}_proj")(y).view(len(ids), config.n_head, -1) for name in ("q", "k", "v")
        )
        attended = []
        for t in range(len(ids)):
            first = max(0, t - config.sliding_window + 1) if kind == "sliding_attention" else 0
            scores = torch.einsum("hd,shd->hs", query[t], key[first : t + 1]) / query.shape[-1] ** 0.5
            attended.append(torch.einsum("hs,shd->hd", scores.softmax(-1), value[first : t + 1]).flatten())
        x = x + block.attn.o_proj(torch.stack(attended))
        x = x + block.mlp.fc_out(F.gelu(block.mlp.fc_in(block.ln_2(x)), approximate="tanh"))
    return body.ln_f(x) @ body.wte.weight.t()


@torch.no_grad()
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("types", TYPES.values(), ids=TYPES)
def test_it_computes_what_a_plain_implementation_does(types, implementation):
    model = make(types)
    model.set_attn_implementation(implementation)
    expected = torch.stack([by_hand(model, row) for row in IDS])
    torch.testing.assert_close(model(IDS).logits, expected, atol=1e-4, rtol=0)
    everything = make(["full_attention"] * 3)(IDS).logits
    torch.testing.assert_close(everything[:, :4], expected[:, :4], atol=1e-4, rtol=0)  # as far as the window reaches
    assert (everything[:, 4:] - expected[:, 4:]).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("types", TYPES.values(), ids=TYPES)
def test_generation_goes_on_beyond_the_window(types, cache):
    model, ids = make(types), IDS[:1, :3]
    made = model.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=0, cache_implementation=cache)
    for _ in range(20):
        ids = torch.cat([ids, by_hand(model, ids[0])[-1:].argmax(-1, keepdim=True)], dim=1)
    assert made.tolist() == ids.tolist()


@torch.no_grad()
def test_the_cache_holds_no_more_than_the_window():
    cache = make(TYPES["two of three"])(IDS, use_cache=True).past_key_values
    assert [layer.keys.shape[2] for layer in cache.layers] == [3, 3, 20]


@torch.no_grad()
def test_a_text_goes_in_piece_by_piece():
    model = make(TYPES["two of three"])
    whole, past, pieces = model(IDS).logits, None, []
    for piece in IDS.split([7, 1, 2, 10], dim=1):
        outputs = model(piece, past_key_values=past, use_cache=True)
        past = outputs.past_key_values
        pieces.append(outputs.logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=0)


def test_it_learns():
    model = make(TYPES["all"]).train()
    model(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
