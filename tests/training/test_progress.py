"""What a run shows: a table, a summary, nothing else; with --verbose what the libraries say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState

from hf_gpt_scratch.training import instruct, pretrain, spam
from hf_gpt_scratch.training.progress import LossTable

ROOT = Path(__file__).parents[2]
DATA = ROOT / "training" / "demo_data"
SHAPE = "--train_tokenizer 300 --n_embd 16 --n_layer 1 --n_head 2 --n_positions 256 --use_cpu true"
RUN = "--max_steps 3 --save_strategy no --eval_strategy steps --eval_steps 3 --logging_steps 1"
RUN += " --load_best_model_at_end false --config"


def shown(capsys, *logs: tuple[int, dict], max_steps: int = 100) -> list[list[str]]:
    """The words of the lines that are printed for these logs."""
    table, state = LossTable("f1"), TrainerState(max_steps=max_steps, is_world_process_zero=True)
    table.on_train_begin(None, state, TrainerControl())
    for step, values in logs:
        if step > state.global_step:
            table.on_step_begin(None, state, TrainerControl())
        state.global_step, state.epoch = step, step / 10
        table.on_log(None, state, TrainerControl(), logs=values)
    table.on_train_end(None, state, TrainerControl())
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_an_evaluation_and_the_loss_of_its_step_are_one_row(capsys):
    header, row = shown(capsys, (10, {"loss": 2.0}), (10, {"eval_loss": 1.5, "eval_f1": 0.25}))
    assert header == ["step", "epoch", "loss", "validation", "loss", "f1"]
    assert row == ["10", "1.00", "2.0000", "1.5000", "0.2500"]


def test_the_last_step_is_one_row_too_and_a_loss_that_was_not_logged_is_a_dash(capsys):
    logs = [(50, {"eval_loss": 2.5}), (100, {"loss": 1.0}), (100, {"eval_loss": 1.5})]
    rows = shown(capsys, *logs)[1:]
    assert rows == [["50", "5.00", "-", "2.5000"], ["100", "10.00", "1.0000", "1.5000"]]


def test_of_many_losses_every_twentieth_part_of_the_run_is_shown_and_the_last(capsys):
    rows = shown(capsys, *[(step, {"loss": float(step)}) for step in range(1, 101)])[1:]
    assert [int(row[0]) for row in rows] == [*range(1, 101, 5), 100]


def test_what_is_logged_after_the_training_is_no_row(capsys):
    assert len(shown(capsys, (100, {"train_runtime": 3.0, "train_loss": 1.0}))) == 1


def words(folder: Path, *options) -> list[str]:
    (folder / "empty.yaml").touch()
    return [*SHAPE.split(), *RUN.split(), *map(str, [folder / "empty.yaml", *options, "--output_dir", folder / "out"])]


def check(out: str, folder: Path, lines: int) -> None:
    header, *rows = out.splitlines()
    assert header.split()[:3] == ["step", "epoch", "loss"] and len(rows) == 3 + lines, out
    assert [row.split()[0] for row in rows[:3]] == ["1", "2", "3"]
    assert rows[-2].startswith(f"Wrote {folder / 'out'} (the model, ") and rows[-3] == ""
    assert rows[-1].startswith("Next: hf-gpt-scratch ") and str(folder / "out") in rows[-1]
    assert not re.search(r"[{}]|%\||warning", out, re.IGNORECASE), out


def test_a_run_prints_no_line_of_a_library_and_replaces_another_only_when_told(tmp_path, capfd):
    argv = words(tmp_path, "--data_file", ROOT / "tests" / "support" / "messages.tsv")
    command = [sys.executable, "-m", "hf_gpt_scratch_cli", "train", "spam", *argv]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    check(run.stdout, tmp_path, lines=8)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    again = subprocess.run([*command, "--seed", "5"], capture_output=True, text=True, cwd=ROOT)
    assert again.returncode == 1 and again.stderr.count("\n") == 1 and "--overwrite_output_dir true" in again.stderr
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    argv += ["--overwrite_output_dir", "true", "--seed", "5"]
    spam.main([*argv, "--verbose", "true", "--disable_tqdm", "true"])
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before
    again = capfd.readouterr()
    assert "{'loss': " in again.out and "epoch      loss" not in again.out
    assert "note: " in again.err and "is deleted: metrics.json, results/spam.json" in again.err


@pytest.mark.parametrize(
    ("job", "data", "options", "lines"),
    [
        (pretrain, "story.txt", ["--sample_every", 0], 7),
        (instruct, "instructions.json", ["--answered_rows", 2, "--max_new_tokens", 2], 11),
    ],
    ids=["pretrain", "instruct"],
)
def test_so_do_the_other_jobs(job, data, options, lines, tmp_path, capfd):
    job.main(words(tmp_path, "--data_file", DATA / data, *options))
    out, err = capfd.readouterr()
    if job is instruct:
        found, out = out.split("\n", 1)
        assert found == "2,521 rows (Alpaca: instruction, input, output)."
    check(out, tmp_path, lines)
    assert err == ""


def test_samples_stand_apart_from_the_table_below_its_header(tmp_path, capfd):
    pretrain.main(words(tmp_path, "--data_file", DATA / "story.txt", "--sample_every", 2, "--sample_tokens", 3))
    header, *rows = capfd.readouterr().out.split("\n\n")[0].splitlines()
    assert header.split()[0] == "step"
    samples = [row.strip() for row in rows if row.startswith(" " * 9)]
    assert [sample.split(":")[0] for sample in samples] == ["| step 0", "| step 2", "| step 3"]
    assert all("Every effort moves you" in sample for sample in samples)
    assert [row.split()[0] for row in rows if not row.startswith(" " * 9)] == ["1", "2", "3"]
