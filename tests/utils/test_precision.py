"""Which precision a CPU is fast at: by its instructions, and by a product that is really fast."""

import pytest
import torch

from hf_gpt_scratch.utils import precision


@pytest.fixture
def cpu(monkeypatch, real_cpu_dtype):
    """A CPU with these instructions, whose bf16 products are so many times as fast as fp32."""

    def has(times_faster: float, **capabilities: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **capabilities})
        monkeypatch.setattr(precision, "times_faster", lambda slow, fast: times_faster)

    precision._measured.cache_clear()
    yield has
    precision._measured.cache_clear()


@pytest.mark.parametrize("name", ["amx_bf16", "avx512_bf16", "bf16", "sve_bf16"])
def test_bf16_where_its_products_are_faster(cpu, name):
    cpu(2.3, **{name: True})
    assert precision.fast_cpu_dtype() == torch.bfloat16
    assert precision.why_cpu_dtype() == "bf16 products are 2.3x as fast as fp32 on this CPU"


def test_fp32_on_a_cpu_that_says_bf16_but_is_slow_at_it(cpu):
    cpu(0.01, avx512_bf16=True)
    assert precision.fast_cpu_dtype() == torch.float32
    assert precision.why_cpu_dtype() == "bf16 products are 0.0x as fast as fp32 on this CPU"


def test_fp32_on_a_cpu_without_bf16_whatever_a_product_takes(cpu):
    cpu(2.0, avx2=True, amx_bf16=False)
    assert precision.fast_cpu_dtype() == torch.float32
    assert precision.why_cpu_dtype() == "this CPU has no instructions for bf16"


def test_this_cpu_is_measured_once(cpu, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    first = precision.why_cpu_dtype()
    monkeypatch.setattr(precision, "times_faster", lambda slow, fast: pytest.fail("measured again"))
    assert precision.why_cpu_dtype() == first and first.startswith("bf16 products are ")
