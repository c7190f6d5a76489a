"""The benchmark of conversations derives them from single rows, and measures the same answers alone and as second."""

import importlib.util
import json
from pathlib import Path

import pytest

from hf_gpt_scratch.data.conversations import load_conversations
from hf_gpt_scratch.data.turns import exchanges

SCRIPT = Path(__file__).parents[2] / "training" / "benchmarks" / "conversations.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_conversations", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data_file(tmp_path):
    rows = [{"question": f"What is {n} and {n + 1}?", "answer": f"It is {2 * n + 1}."} for n in range(61)]
    (tmp_path / "sums.json").write_text(json.dumps(rows))
    return tmp_path / "sums.json"


def test_conversations_are_pairs_of_the_rows(script, data_file, tmp_path):
    assert script.main(["--data_file", str(data_file), "--write", str(tmp_path / "sets"), "--seeds", "4"]) == {}
    singles = load_conversations(data_file).rows
    assert load_conversations(tmp_path / "sets" / "singles.jsonl").rows == singles
    derived = load_conversations(tmp_path / "sets" / "conversations.jsonl").rows
    assert [len(exchanges(row)) for row in derived] == [2] * 30 + [1]
    as_singles = sorted(pair for row in derived for pair in exchanges(row))
    assert as_singles == sorted(pair for row in singles for pair in exchanges(row))
    assert derived == script.pairs(singles, 4) != script.pairs(singles, 5)


def test_both_kinds_are_measured_on_the_same_answers(script, data_file, tmp_path):
    words = ["--seeds", "1", "2", "--epochs", "1", "--n_embd", "32", "--n_layer", "1", "--tokens", "300"]
    output = tmp_path / "result.json"
    summary = script.main(["--data_file", str(data_file), "--n_positions", "256", "--output", str(output), *words])
    result = json.loads(output.read_text())
    assert result["answers"] == 2 * 9 and result["singles"] == summary["singles"]
    for kind in script.KINDS:
        ratio, (low, high) = result[kind]["second_to_alone"]["value"], result[kind]["second_to_alone"]["interval"]
        assert ratio == pytest.approx(result[kind]["second"]["value"] / result[kind]["alone"]["value"])
        assert low <= ratio <= high
