"""The cache of generation holds what transformers' DynamicCache holds, without copying it at every step."""

import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.generation.cache import ROOM, GrowingCache, GrowingLayer
from hf_gpt_scratch.generation.sampling import sample


def states(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, length, 3), torch.randn(rows, 2, length, 4)


def test_it_holds_what_a_dynamic_cache_holds():
    growing, dynamic = GrowingCache(), DynamicCache()
    assert growing.get_seq_length() == 0
    for length in (5, 1, 1, ROOM + 9, 1, ROOM, 1):
        new = states(2, length)
        for layer in range(2):
            for held, expected in zip(growing.update(*new, layer), dynamic.update(*new, layer), strict=True):
                assert held.equal(expected)
        assert growing.get_seq_length() == dynamic.get_seq_length()


def test_a_step_copies_nothing():
    layer = GrowingLayer()
    layer.update(*states(1, 7))
    place = layer.keys.data_ptr(), layer.values.data_ptr()
    for _ in range(ROOM):
        layer.update(*states(1, 1))
        assert (layer.keys.data_ptr(), layer.values.data_ptr()) == place
    layer.update(*states(1, 1))
    assert layer.keys.data_ptr() != place[0]


def test_rows_that_were_reordered_or_left_out_stay_so():
    growing, dynamic = GrowingCache(), DynamicCache()
    changes = [
        lambda cache: cache.reorder_cache(torch.tensor([2, 0, 0])),
        lambda cache: cache.batch_select_indices(torch.tensor([1, 2])),
        lambda cache: cache.batch_repeat_interleave(2),
        lambda cache: cache.crop(-3),
    ]
    for change, rows in zip([*changes, lambda cache: None], (3, 3, 2, 4, 4)):
        for length in (4, 1):
            new = states(rows, length)
            for held, expected in zip(growing.update(*new, 0), dynamic.update(*new, 0), strict=True):
                assert held.equal(expected)
        change(growing)
        change(dynamic)


def test_a_cache_that_was_reset_is_as_a_new_one():
    cache = GrowingCache()
    cache.update(*states(3, 4), 0)
    cache.reset()
    assert cache.get_seq_length() == 0
    new = states(5, 2)
    assert all(held.equal(expected) for held, expected in zip(cache.update(*new, 0), new, strict=True))


def test_rows_of_several_caches_end_together():
    one, other = GrowingCache(), DynamicCache()
    (long, _), (short, _) = states(3, 6), states(2, 4)
    one.update(long, long, 0)
    other.update(short, short, 0)
    joined = GrowingCache.of_rows([(one, torch.tensor([2, 0]), 5), (other, torch.tensor([1]), 3)])
    keys = joined.layers[0].keys
    assert keys[:2].equal(long[[2, 0], :, 1:])
    assert keys[2, :, 2:].equal(short[1, :, 1:]) and not keys[2, :, :2].any()
    new = torch.randn(3, 2, 1, 3)
    assert joined.update(new, new, 0)[1].equal(torch.cat([keys, new], dim=2))


def test_sampling_with_it_is_generating_with_any_other(tiny_config):
    tiny_config.eos_token_id, tiny_config.initializer_range = None, 0.5
    torch.manual_seed(0)
    prompt = torch.randint(100, (1, 9))
    ours = GPTScratchForCausalLM(tiny_config)
    tiny_config.layer_types, tiny_config.sliding_window = ["full_attention", "sliding_attention"], 5
    narrow = GPTScratchForCausalLM(tiny_config)
    stock = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=100, initializer_range=0.5))
    for model in (ours, narrow, stock.eval()):
        expected = model.generate(prompt, max_new_tokens=40, do_sample=False, pad_token_id=0, eos_token_id=None)
        assert list(sample(model, prompt, 40, temperature=0)) == expected[0, 9:].tolist()
        assert len(set(expected[0].tolist())) > 10
