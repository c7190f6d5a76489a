"""Benchmarks of packing, instruction tuning and spam fine-tuning: equal models, typical batches, rows with reasons."""

import sys
from pathlib import Path

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import instruct  # noqa: E402
import packing  # noqa: E402
import spam_finetune  # noqa: E402


def test_the_books_model_has_our_weights(tiny_config):
    chapter = pytest.importorskip("llms_from_scratch.ch04")
    ours = GPTScratchForCausalLM(tiny_config).eval()
    shape = {"vocab_size": 100, "context_length": 64, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    book = chapter.GPTModel({**shape, "drop_rate": 0.0, "qkv_bias": True}).eval()
    book.load_state_dict(spam_finetune.book_weights(ours), strict=False)
    book.out_head.weight.data = ours.lm_head.weight.data
    ids = torch.randint(1, 100, (2, 9), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(book(ids), ours(ids).logits, atol=1e-5, rtol=0)


def test_batches_are_like_the_mean():
    lengths = [20 + 7 * i % 61 for i in range(200)]
    batches = packing.typical_batches(lengths, 8, 0, is_padded=True)
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    means = [sum(lengths[i] for i in batch) / 8 for batch in batches]
    mean = sum(lengths) / 200
    assert abs(means[0] - mean) < 5 < abs(means[-1] - mean)


def test_losses_and_gradients_that_differ_are_told():
    packed, padded = {"loss": 2.0, "norms": [1.0, 0.5]}, {"loss": 2.0, "norms": [1.0, 0.5]}
    assert packing.differ("fp32")({"packed": packed, "padded": padded}) is None
    packed["norms"] = [1.0, 0.51]
    assert "gradients" in packing.differ("fp32")({"packed": packed, "padded": padded})
    assert packing.differ("bf16")({"packed": packed, "padded": padded}) is None
    packed["loss"] = float("nan")
    assert "loss" in packing.differ("bf16")({"packed": packed, "padded": padded})


def test_a_missing_peer_is_a_reason():
    rows = instruct.make_rows(None, "124M", "fp32")
    assert [one["ratio"] for one in rows] == [None] * 3 and all("pip install trl" in one["note"] for one in rows)
    (one,) = spam_finetune.make_rows(None, "spam", "the book's loop", 4.0, "fp32", "it is not installed here")
    assert one["ratio"] is None and one["note"] == "it is not installed here"
