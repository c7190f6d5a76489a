"""What the benchmarks share: contenders in processes of their own, in turns; rows; the JSON."""

import argparse
import json
import os
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.utils.errors import InputError
from support.contenders import counter

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import side_by_side  # noqa: E402
from side_by_side import Contender, measure, missed, row  # noqa: E402


def test_contenders_take_turns_in_processes_of_their_own(tmp_path):
    log = tmp_path / "log"
    outputs = []
    measured = measure(
        [
            Contender("slow", counter, {"log": str(log), "name": "slow", "seconds": 0.2}),
            Contender("large", counter, {"log": str(log), "name": "large", "units": 30, "megabytes": 200}),
        ],
        rounds=2,
        compare=lambda found: outputs.append(found),
    )
    worked = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, _ in worked] == ["slow", "large", "slow", "large", "large", "slow"]
    assert len({pid for _, pid in worked} | {str(os.getpid())}) == 3
    assert outputs == [{"slow": ["s", 1 << 20], "large": ["l", 200 << 20]}]
    slow, large = measured["contenders"]["slow"], measured["contenders"]["large"]
    assert measured["baseline"] == "slow" and slow["ratios"] == [1, 1] and slow["memory_ratio"] == 1
    for number in range(2):
        speed = 30 / large["seconds"][number]
        assert large["ratios"][number] == pytest.approx(speed / (10 / slow["seconds"][number]))
    assert large["lowest"] <= large["ratio"] <= large["highest"] and large["ratio"] > 1
    assert large["peak_gb"] - slow["peak_gb"] > 0.15 and large["memory_ratio"] > 1


def test_nothing_is_timed_where_the_outputs_differ(tmp_path):
    contenders = [Contender("one", counter, {"log": str(tmp_path / "log"), "name": "one"})]
    with pytest.raises(InputError, match="means nothing: 3 labels differ"):
        measure(contenders, 5, compare=lambda outputs: "3 labels differ")
    assert len((tmp_path / "log").read_text().splitlines()) == 1


@pytest.mark.parametrize(("error", "kind"), [("InputError", InputError), ("KeyError", RuntimeError)])
def test_a_contender_that_fails_is_named(tmp_path, error, kind):
    with pytest.raises(kind, match="(?s)one.*(no model|KeyError)"):
        measure([Contender("one", counter, {"log": str(tmp_path / "log"), "name": "one", "fails": error})], 1)


def test_a_row_says_what_was_asked_and_reached():
    reached = row("steps", "stock", 1.4, [1.6, 1.5, 1.2], memory_asked=0.7, memory_ratio=0.6, if_missed="why")
    assert (reached["ratio"], reached["lowest"], reached["highest"], reached["note"]) == (1.5, 1.2, 1.6, "")
    assert not missed(reached)
    assert row("steps", "stock", 1.4, [1.3], note="also", if_missed="why")["note"] == "also; why"
    assert not missed(row("slope of the time", "the law", None, [1.3], if_missed="why"))  # nothing is asked
    assert missed(row("steps", "stock", 1.4, [1.5], memory_asked=0.7, memory_ratio=0.8))
    assert missed(row("start", "", 1, [1.5], unit="s", at_most=True))
    assert not missed(row("start", "", 1, [0.5], unit="s", at_most=True))
    absent = row("steps", "trl", 1.4, None, note="trl is not installed here")
    assert absent["ratio"] is None and not missed(absent)
    with pytest.raises(ValueError, match="no note"):
        row("steps", "trl", 1.4, None)


def test_the_json_tells_the_machine_and_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(side_by_side, "_processes", side_by_side._processes)  # to be put back
    parser = argparse.ArgumentParser()
    side_by_side.add_options(parser, "/somewhere/made_up.py", rounds=7)
    assert side_by_side.parse(parser, []).output == "runs/benchmarks/made_up.json"
    assert side_by_side.parse(parser, []).rounds == 7
    argv = ["--quick", "--output", str(tmp_path / "new" / "out.json")]
    args = side_by_side.parse(parser, argv)
    assert args.rounds == 2
    rows = [row("steps", "stock", 1.4, [1.3])]
    measured = {"more": 5}
    result = side_by_side.write(measured, "/x/made_up.py", args, argv, task="a step", compared="equal", rows=rows)
    assert json.loads((tmp_path / "new" / "out.json").read_text()) == result
    assert result["quick"] and result["rows"] == rows and result["more"] == 5 and result["seed"] == 123
    assert "python training/benchmarks/made_up.py --quick" in result["command"]
    assert result["hardware"]["memory_gb"] > 0 and "torch" in result["versions"]
    assert "steps: 1.30 x (asked: 1.4 x)" in capsys.readouterr().out


def test_the_same_weights_as_both_models(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    side_by_side.stock_and_ours(tmp_path, "tiny", seed=5, vocab_size=99, n_positions=20)
    ids = torch.arange(20).view(1, 20)
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / name).eval() for name in ("stock", "ours")]
    assert [model.config.model_type for model in models] == ["gpt2", "gpt_scratch"]
    torch.testing.assert_close(models[0](ids).logits, models[1](ids).logits)


def test_a_function_runs_apart():
    assert side_by_side.apart(os.getpid) != os.getpid() == side_by_side.apart(os.getppid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is shared without fork")
def test_quick_processes_come_from_one_that_has_imported(monkeypatch):
    monkeypatch.setattr(side_by_side, "_processes", side_by_side._processes)  # to be put back
    monkeypatch.setattr(side_by_side, "IMPORTED_ONCE", [])
    parser = argparse.ArgumentParser()
    side_by_side.add_options(parser, "/somewhere/made_up.py")
    side_by_side.parse(parser, ["--quick"])
    common = {side_by_side.apart(os.getppid) for _ in range(2)}
    assert len(common) == 1 and common != {os.getpid()}
