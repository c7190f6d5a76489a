"""Random weights in the true shapes of GPT-2: our logits are stock GPT-2's, to 1e-4."""

import gc

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.conversion import hf_gpt2

# n_embd, n_layer, n_head
SIZES = {"124M": (768, 12, 12), "355M": (1024, 24, 16), "774M": (1280, 36, 20), "1558M": (1600, 48, 25)}
LENGTHS = (24, 9)


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[pytest.mark.slow] if size != "124M" else []) for size in SIZES]
)
@torch.no_grad()
def test_logits_are_those_of_stock_gpt2(size):
    n_embd, n_layer, n_head = SIZES[size]
    torch.manual_seed(0)
    stock = GPT2LMHeadModel(GPT2Config(n_embd=n_embd, n_layer=n_layer, n_head=n_head)).eval()
    for parameter in stock.parameters():  # biases start as zeros and LayerNorms as ones, which hides mix-ups
        parameter += 0.02 * torch.randn_like(parameter)
    ours = as_ours(stock)
    rows = [torch.randint(50257, (length,)) for length in LENGTHS]
    for implementation in ("eager", "sdpa"):
        stock.set_attn_implementation(implementation)
        ours.set_attn_implementation(implementation)
        expected = [stock(row[None]).logits[0] for row in rows]
        for side in ("left", "right"):
            ids, mask = torch.full((2, LENGTHS[0]), 50256), torch.zeros(2, LENGTHS[0], dtype=torch.long)
            for i, row in enumerate(rows):
                where = slice(LENGTHS[0] - len(row), None) if side == "left" else slice(len(row))
                ids[i, where], mask[i, where] = row, 1
            half = LENGTHS[0] // 2
            whole = ours(ids, attention_mask=mask).logits
            first = ours(ids[:, :half], attention_mask=mask[:, :half], use_cache=True)
            second = ours(ids[:, half:], attention_mask=mask, past_key_values=first.past_key_values)
            cached = torch.cat([first.logits, second.logits], dim=1)
            for i, logits in enumerate(expected):
                real = mask[i].bool()
                for name, result in (("whole", whole), ("cached", cached)):
                    difference = (result[i][real] - logits).abs().max().item()
                    assert difference <= 1e-4, (implementation, side, name)


def as_ours(stock: GPT2LMHeadModel) -> GPTScratchForCausalLM:
    """The stock model's weights in our model, in memory; the table of names is the one that files are converted by."""
    config = hf_gpt2.config_from_stock(stock.config.to_dict())
    state = stock.state_dict()
    converted = {}
    for mapping in hf_gpt2.key_map("GPT2LMHeadModel", config.n_layer, tied=True):
        converted.update(mapping.to_ours(state[mapping.theirs]))
    with torch.device("meta"):
        ours = GPTScratchForCausalLM(config)
    missing, unexpected = ours.load_state_dict(converted, strict=False, assign=True)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    ours.tie_weights()
    gc.collect()
    return ours.eval()
