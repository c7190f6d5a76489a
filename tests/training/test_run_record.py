"""The command that a run records, and what it says beforehand that it will delete."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_gpt_scratch.model_folder.saving import replace_model
from hf_gpt_scratch.training.pretrain import make_parser
from hf_gpt_scratch.training.run_record import Run
from hf_gpt_scratch.utils.result_card import Metric, ResultCard

SCRIPTS = {"pretrain": "pretrain", "finetune_spam": "spam", "finetune_instruct": "instruct"}


@pytest.fixture(autouse=True)
def no_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # it would stand in the command


def test_the_command_is_that_of_what_was_started(monkeypatch, tmp_path):
    words = ["cpu_small", "--output_dir", str(tmp_path), "--use_cpu", "true", "--verbose", "true"]
    monkeypatch.setattr(sys, "argv", ["/home/someone/pretrain.py", *words])  # a script of the user's own
    assert Run("pretrain", make_parser()).command() == " ".join(["hf-gpt-scratch train pretrain", *words])
    ours = Run("pretrain", make_parser(), words, "training/pretrain.py")
    assert ours.command() == " ".join(["python training/pretrain.py", *words])


@pytest.mark.parametrize(("script", "job"), SCRIPTS.items(), ids=SCRIPTS)
def test_a_script_says_which_it_is(monkeypatch, script, job):
    started = []
    monkeypatch.setattr("hf_gpt_scratch_cli.run", lambda words, program: started.append((words, program)))
    monkeypatch.setattr(sys, "argv", ["elsewhere.py", "--seed", "1"])
    path = Path(__file__).parents[2] / "training" / f"{script}.py"
    runpy.run_path(str(path), run_name="__main__")
    assert started == [(["train", job, "--seed", "1"], f"training/{script}.py")]


def test_the_command_line_passes_it_on(monkeypatch):
    from hf_gpt_scratch import cli
    from hf_gpt_scratch.training import pretrain

    started = []
    monkeypatch.setattr(pretrain, "main", lambda words, program: started.append((words, program)))
    words = ["cpu_small", "--output_dir", "x"]
    assert cli.main(["train", "pretrain", *words], "training/pretrain.py") == 0
    assert cli.main(["train", "pretrain", *words]) == 0
    assert started == [(words, "training/pretrain.py"), (words, None)]


def test_what_is_announced_is_what_is_deleted(tmp_path, capsys):
    out, new = tmp_path / "out", tmp_path / "new"
    new.mkdir()
    card = ResultCard(
        "a task", "a protocol", [{"source": "a file", "sha256": "ab"}], {"x": Metric(1.0)}, "a command", {}
    )
    card.write(out, "spam")
    (out / "results" / "mine.json").write_text("[1, 2]")  # no result card
    (out / "metrics.json").write_text("{}")
    Run.warn_of_deletions(SimpleNamespace(output_dir=out, training_args=SimpleNamespace(process_index=0)))
    assert "in its place, metrics.json, results/spam.json will be deleted" in capsys.readouterr().err
    assert replace_model(new, out) == ["metrics.json", "results/spam.json"]
    assert [path.name for path in (out / "results").iterdir()] == ["mine.json"]
