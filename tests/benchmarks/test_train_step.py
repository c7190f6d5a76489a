"""The benchmark runs and measures both models, on sizes that take seconds."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "training" / "benchmarks" / "train_step.py"


@pytest.mark.slow
def test_train_step_compares_equal_models(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("train_step", SCRIPT)
    train_step = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "train_step", train_step)  # the worker processes import it by this name
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec.loader.exec_module(train_step)
    output = tmp_path / "result.json"
    options = {"--size": "tiny", "--rounds": 2, "--batch_size": 2, "--length": 16, "--output": output}
    train_step.main([str(word) for option in options.items() for word in option])
    result = json.loads(output.read_text())
    assert result["max_logit_difference"] <= 1e-4 and result["loss_difference"] <= 1e-4
    assert all(value > 0 for value in (*result["tokens_per_second"].values(), *result["peak_gb"].values()))
    assert 0.01 < result["speed_ratio"] < 100 and 0.1 < result["memory_ratio"] < 10
