"""Every benchmark of the table runs with `--quick`, on its own, and tells its rows; no speed is asserted."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = {"question", "against", "asked", "ratio", "lowest", "highest", "unit", "at_most", "note"} | {
    f"memory_{name}" for name in ("asked", "ratio", "unit")
}


def names() -> tuple[str, ...]:
    spec = importlib.util.spec_from_file_location("all_benchmarks", ROOT / "training" / "benchmarks" / "all.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.BENCHMARKS


@pytest.mark.benchmarks
@pytest.mark.parametrize("name", names())
def test_a_benchmark_runs_quickly_and_tells_its_rows(name, tmp_path):
    output = tmp_path / "result.json"
    command = [sys.executable, f"training/benchmarks/{name}.py", "--quick", "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    result = json.loads(output.read_text())
    assert result["rows"] and result["quick"] and result["task"] and result["compared"]
    assert f"python training/benchmarks/{name}.py --quick" in result["command"]
    for row in result["rows"]:
        assert row.keys() == ROW, row
        if row["ratio"] is None:  # a peer's package is missing, or the CPU has no such precision
            assert row["note"], row
        else:
            assert row["lowest"] <= row["ratio"] <= row["highest"], row
            assert row["lowest"] > 0 or not row["unit"], row  # only a slope may fall: of what costs the same, by noise
