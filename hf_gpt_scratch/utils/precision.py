"""
Which precision the CPU is fast at: it is asked, and a product timed, since some CPUs have the instructions of bfloat16
in name only and multiply in it a hundred times slower than in float32.
"""

import time
from functools import cache

import torch

ROUNDS = 5
AT_LEAST = 1.5  # times faster: what is won must outweigh the conversions around each product


def fast_cpu_dtype() -> torch.dtype:
    """`torch.bfloat16` where this CPU multiplies matrices faster in it, else `torch.float32`."""
    return _measured()[0]


def why_cpu_dtype() -> str:
    """A clause that says why `fast_cpu_dtype` is what it is, such as `bf16 products are 2.3x as fast here`."""
    return _measured()[1]


@cache
def _measured() -> tuple[torch.dtype, str]:
    has = torch.cpu.get_capabilities()  # amx_bf16, avx512_bf16; on ARM bf16, sve_bf16
    if not any(has.get(name) for name in has if name.endswith("bf16")):
        return torch.float32, "this CPU has no instructions for bf16"
    ratio = _times_faster()
    dtype = torch.bfloat16 if ratio >= AT_LEAST else torch.float32
    return dtype, f"bf16 products are {ratio:.1f}x as fast as fp32 on this CPU"


def _times_faster() -> float:
    """How many times faster a product is in bf16, by the best of some alternating rounds, which take 0.1 s."""
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    factors = {dtype: (torch.ones(256, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)) for dtype in best}
    for _ in range(1 + ROUNDS):  # the first also warms up
        for dtype, (left, right) in factors.items():
            start = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]
