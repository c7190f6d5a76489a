"""The benchmark of generation runs, and finds the same tokens both ways, on sizes that take seconds."""

import importlib.util
import json
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "training" / "benchmarks" / "generate.py"


def test_generate_compares_equal_answers(tmp_path):
    spec = importlib.util.spec_from_file_location("benchmark_generate", SCRIPT)
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    output = tmp_path / "result.json"
    options = {"--size": "tiny", "--rounds": 1, "--prompts": 8, "--new_tokens": 8, "--output": output}
    generate.main([str(word) for option in options.items() for word in option])
    result = json.loads(output.read_text())
    assert all(value > 0 for value in result["tokens_per_second"].values()) and len(result["speed_ratios"]) == 1
    assert (
        result["command"]
        .removeprefix("OMP_NUM_THREADS=1 ")
        .startswith("python training/benchmarks/generate.py --size tiny")
    )
