"""The benchmark of the start runs, and what it says is what it measured."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "training" / "benchmarks" / "startup.py"


@pytest.mark.slow
def test_startup_measures_the_commands_beside_the_imports(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("startup", SCRIPT)
    startup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(startup)
    output = tmp_path / "result.json"
    startup.main(["--rounds", "1", "--commands", "classify", "--output", str(output)])
    result = json.loads(output.read_text())["seconds"]
    assert set(result) == {startup.IMPORTS, "its models", *startup.AT_ONCE, "classify"}
    assert all(row["min"] == row["median"] == row["runs"][0] > 0 for row in result.values())
    over = result["classify"]["min"] - result[startup.IMPORTS]["min"]
    assert result["classify"][f"over {startup.IMPORTS}"] == over
    assert f"{result['classify']['min']:.2f}" in capsys.readouterr().out
    assert result["--help"]["min"] < result["classify"]["min"]
