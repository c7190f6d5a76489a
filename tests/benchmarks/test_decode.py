"""The benchmark of decoding: ours in fp32 writes what stock GPT-2 does; what is not measured says why."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import decode  # noqa: E402

from hf_gpt_scratch.utils import int8, precision  # noqa: E402


def test_ours_writes_the_tokens_of_stock_generate(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "missing", lambda package: "not here")  # no GGUF file
    args = argparse.Namespace(quick=True, seed=3, prompt_tokens=8, new_tokens=8)
    decode.prepare(str(tmp_path), args)
    count, stock = decode.make_stock(str(tmp_path), args)()
    assert decode.make_ours(str(tmp_path), args, "fp32")() == (count, stock) and len(stock) == count == 8
    assert decode.make_ours(str(tmp_path), args, "bf16")()[0] == 8


def test_what_each_precision_costs(tmp_path):
    found = decode.perplexities(str(tmp_path), 3, 0, without={decode.INT8: "inexact"})
    assert set(found) == {decode.FP32, decode.BF16, decode.Q8_0}
    for name in (decode.BF16, decode.Q8_0):
        assert found[name] != found[decode.FP32] and found[name] == pytest.approx(found[decode.FP32], rel=0.01)


def test_why_something_is_not_measured(monkeypatch):
    monkeypatch.setattr(decode, "missing", lambda package: f"{package} is not installed here")
    monkeypatch.setattr(int8, "is_exact", lambda: False)
    monkeypatch.setattr(precision, "_measured", lambda: (precision.torch.float32, "this CPU has none"))
    assert decode.unmeasured() == {
        decode.BF16: "this CPU has none",
        decode.INT8: "this CPU's int8 products are inexact",
        decode.Q8_0: "xllamacpp is not installed here",
    }
