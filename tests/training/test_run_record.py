"""The command that a run records, and what it removes of the run that it replaces."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_gpt_scratch.training.pretrain import make_parser
from hf_gpt_scratch.training.run_record import Run

SCRIPTS = {"pretrain": "pretrain", "finetune_classify": "classify", "finetune_spam": "spam"}
SCRIPTS |= {"finetune_instruct": "instruct"}


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


def test_a_run_that_replaces_another_removes_its_checkpoints_and_outputs(tmp_path):
    for name in ("checkpoint-5", "checkpoint-10", "checkpoint-10-copy", "plots"):
        (tmp_path / name).mkdir()
    for name in ("config.json", "predictions.csv", "samples.jsonl", "run.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    Run.remove_earlier_run(SimpleNamespace(output_dir=tmp_path))
    # The model stays until the new one is whole.
    left = ["checkpoint-10-copy", "config.json", "notes.txt", "plots"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_record_holds_no_path_of_the_machine(tmp_path, monkeypatch):
    project = tmp_path / "project"
    for folder in ("data", "runs/small"):
        (project / folder).mkdir(parents=True)
    (project / "data" / "story.txt").write_text("x")
    monkeypatch.chdir(project)
    words = ["--data_file", str(project / "data/story.txt"), f"--model_name_or_path={project}/runs/small"]
    run = Run("pretrain", make_parser(), [*words, "--output_dir", str(project / "runs/new"), "--use_cpu", "true"])
    facts = run.facts(source=str(project / "data/story.txt"), sha256="ab")
    assert facts["data"] == {
        "source": "story.txt", "sha256": "ab", "file": "../../data/story.txt", "dataset": None
    }  # fmt: skip
    assert facts["base_model"] == "../small" and str(project) not in str(facts)
    assert "--data_file data/story.txt --model_name_or_path=runs/small --output_dir runs/new" in facts["command"]
    assert run.relative("user/base") == "user/base" and run.relative(None) is None


def test_a_folder_behind_a_link_finds_its_data(tmp_path, monkeypatch):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "disk" / "deep")
    (tmp_path / "story.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    run = Run("pretrain", make_parser(), ["--data_file", "story.txt", "--output_dir", "runs/new", "--use_cpu", "true"])
    (tmp_path / "runs" / "new").mkdir()
    assert (Path("runs/new") / run.facts(source="story.txt")["data"]["file"]).is_file()


def test_a_run_ends_with_what_it_wrote_and_what_comes_next(tmp_path, capsys):
    Run.say_what_is_there(SimpleNamespace(output_dir=tmp_path / "my run"), ("metrics.json", "plots/"), "chat")
    wrote, following = capsys.readouterr().out.splitlines()[1:]
    assert wrote == f"Wrote {tmp_path}/my run (the model, metrics.json, plots/)."
    assert following == f"Next: hf-gpt-scratch chat '{tmp_path}/my run'"


@pytest.mark.parametrize("overwrite", ["true", "false"])
def test_whoever_interrupts_a_training_is_told_how_to_go_on(tmp_path, monkeypatch, overwrite):
    words = ["cpu_small", "--output_dir", str(tmp_path), "--use_cpu", "true", "--overwrite_output_dir", overwrite]
    run = Run("pretrain", make_parser(), words)
    monkeypatch.setattr("hf_gpt_scratch.training.run_record.make_record", lambda *_: {})

    def interrupt(resume_from_checkpoint):
        raise KeyboardInterrupt

    trainer = SimpleNamespace(add_callback=lambda _: None, listen_to=lambda _: None, train=interrupt)
    said = "^Interrupted before the first checkpoint was saved: the same command begins anew"
    with run, pytest.raises(KeyboardInterrupt, match=said):
        run.train(trainer)

    def save_and_interrupt(resume_from_checkpoint):
        (tmp_path / "checkpoint-8").mkdir()
        (tmp_path / "checkpoint-8" / "trainer_state.json").write_text('{"global_step": 8}')
        raise KeyboardInterrupt

    trainer.train = save_and_interrupt
    without = " without --overwrite_output_dir" if overwrite == "true" else ""
    said = f"^Interrupted; .*checkpoint-8 is kept: the same command{without} goes on from it\\.$"
    with run, pytest.raises(KeyboardInterrupt, match=said):
        run.train(trainer)
