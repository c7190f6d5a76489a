"""
Which precision the CPU is fast at: it is asked, and a product timed, since some CPUs have the instructions of bfloat16
in name only and multiply in it a hundred times slower than in float32.
"""

import time
from collections.abc import Callable
from functools import cache, partial

import torch

DTYPES = (torch.float32, torch.bfloat16)
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
    factors = {dtype: (torch.ones(256, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)) for dtype in DTYPES}
    slow, fast = (partial(torch.nn.functional.linear, *factors[dtype]) for dtype in DTYPES)
    ratio = times_faster(slow, fast)
    dtype = torch.bfloat16 if ratio >= AT_LEAST else torch.float32
    return dtype, f"bf16 products are {ratio:.1f}x as fast as fp32 on this CPU"


def times_faster(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    """How many times faster the second call is, by the best of some alternating rounds."""
    best = [float("inf"), float("inf")]
    for _ in range(1 + ROUNDS):  # the first also warms up
        for number, call in enumerate((slow, fast)):
            start = time.perf_counter()
            call()
            best[number] = min(best[number], time.perf_counter() - start)
    return best[0] / best[1]
