"""The commands that result cards of earlier versions record."""

import runpy
import sys

import pytest

OLD = {"calibration": "calibrate", "spam_benchmark": "benchmark", "harness": "evaluate", "report": "report"}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(("module", "command"), OLD.items(), ids=OLD)
def test_the_commands_of_older_cards_are_those_of_today(monkeypatch, capsys, module, command):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"hf_gpt_scratch.evaluation.{module}", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: hf-gpt-scratch {command} [-h]")
