"""The benchmark of ONNX folders: what is compared before a speed is told, and the rows that it tells."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import onnx_models  # noqa: E402
from onnx_models import ONNX, ONNX_INT8, TORCH, TORCH_INT8  # noqa: E402


def test_in_fp32_tokens_labels_and_probabilities_must_be_equal():
    probabilities = {TORCH: [(0.25, 0.75), (0.5, 0.5)], ONNX: [(0.25, 0.75), (0.5, 0.5)]}
    assert onnx_models.differences(probabilities) is None
    probabilities[ONNX] = [(0.25, 0.75), (0.4, 0.6)]
    assert onnx_models.differences(probabilities) == "those of ONNX fp32 by 0.100000"
    for same, other in (([3, 4], [3, 5]), ("spam", "ham")):
        assert onnx_models.differences({TORCH: same, ONNX: same}) is None
        assert onnx_models.differences({TORCH: same, ONNX: other})


def test_each_precision_has_a_row_against_torch_in_the_same():
    speeds = {TORCH: 2.0, TORCH_INT8: 4.0, ONNX: 3.0, ONNX_INT8: 5.0}
    contenders = {
        name: {"ratios": [speed / 2, speed / 2], "peak_gb": speed, "per_second": speed}
        for name, speed in speeds.items()
    }
    outputs = {TORCH: [(0.5, 0.5)], ONNX_INT8: [(0.25, 0.75)]}
    rows = onnx_models.rows_of("typing", "words/s", {"contenders": contenders}, outputs, {})
    told = [(row["question"], row["against"], row["ratio"], row["note"]) for row in rows]
    moved = "probabilities at most 0.2500 from fp32's"
    assert told == [
        ("typing, ONNX fp32", TORCH, 1.5, "3.0 words/s, torch 2.0; 1.50 times the memory"),
        ("typing, ONNX int8", TORCH_INT8, 1.25, f"5.0 words/s, torch 4.0; 1.25 times the memory; {moved}"),
    ]
    [_, last] = onnx_models.rows_of("start", "s", {"contenders": contenders}, {TORCH: "spam"}, {TORCH_INT8: "inexact"})
    assert (last["against"], last["ratio"], last["note"]) == (TORCH, 2.5, "0.20 s, torch 0.50 s")
