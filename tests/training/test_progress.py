"""What a run shows: a table, a summary, nothing else; with --verbose what the libraries say."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState

from hf_gpt_scratch.training.progress import LossTable

ROOT = Path(__file__).parents[2]
DATA = ROOT / "training" / "demo_data"
SHAPE = "--train_tokenizer 300 --n_embd 16 --n_layer 1 --n_head 2 --n_positions 160 --use_cpu true --save_strategy no"
RUN = "--max_steps 4 --eval_strategy steps --eval_steps 2 --logging_steps 1 --load_best_model_at_end false --config"


def shown(capsys, *logs: tuple[int, dict], max_steps: int = 100, evaluate: bool = False) -> list[list[str]]:
    """The words of the lines that are printed for these logs."""
    table, state = LossTable("f1"), TrainerState(max_steps=max_steps, is_world_process_zero=True)
    table.on_train_begin(None, state, TrainerControl())
    for step, values in logs:
        state.global_step, state.epoch = step, step / 10
        table.on_log(None, state, TrainerControl(should_evaluate=evaluate), logs=values)
    table.on_train_end(None, state, TrainerControl())
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_an_evaluation_and_the_loss_of_its_step_are_one_row(capsys):
    header, row = shown(capsys, (10, {"loss": 2.0}), (10, {"eval_loss": 1.5, "eval_f1": 0.25}), evaluate=True)
    assert header == ["step", "epoch", "loss", "validation", "loss", "f1"]
    assert row == ["10", "1.00", "2.0000", "1.5000", "0.2500"]


def test_of_many_losses_every_twentieth_part_of_the_run_is_shown_and_the_last(capsys):
    rows = shown(capsys, *[(step, {"loss": float(step)}) for step in range(1, 101)])[1:]
    assert [int(row[0]) for row in rows] == [*range(1, 101, 5), 100]


def test_what_is_logged_after_the_training_is_no_row(capsys):
    assert len(shown(capsys, (100, {"train_runtime": 3.0, "train_loss": 1.0}))) == 1


@pytest.mark.parametrize(
    ("job", "options", "lines"),
    [
        ("spam", ["--data_file", DATA / "messages.tsv"], 1 + 4 + 1 + 3 + 1),
        ("pretrain", ["--data_file", DATA / "story.txt", "--sample_every", "0", "--dropout", "0"], 1 + 4 + 1 + 2 + 1),
        ("instruct", ["--data_file", DATA / "instructions.json", "--answered_rows", "2"], 1 + 4 + 1 + 3 + 2),
    ],
)
def test_a_run_prints_no_line_of_a_library(job, options, lines, tmp_path):
    (tmp_path / "empty.yaml").touch()
    words = [*SHAPE.split(), *RUN.split(), tmp_path / "empty.yaml", *options, "--output_dir", tmp_path / "out"]
    if job == "instruct":
        words += ["--max_new_tokens", "2"]
    command = [sys.executable, "-m", "hf_gpt_scratch_cli", "train", job, *map(str, words)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    out = run.stdout.splitlines()
    assert out[0].split()[:3] == ["step", "epoch", "loss"] and len(out) == lines, run.stdout
    assert [int(line.split()[0]) for line in out[1:5]] == [1, 2, 3, 4]
    assert not {"{", "}", "%|", "arning"} & {mark for mark in ("{", "}", "%|", "arning") if mark in run.stdout}
    assert out[-1].endswith(f"are in {tmp_path / 'out'}.")
    if job == "spam":
        replaced = subprocess.run([*command, "--verbose", "true"], capture_output=True, text=True, cwd=ROOT)
        assert "{'loss': " in replaced.stdout
        assert "note: " in replaced.stderr and "metrics.json, results/spam.json will be deleted" in replaced.stderr
