"""Which checkpoint a run goes on from: complete ones alone, and none that was damaged since."""

import json

import pytest
from transformers import TrainerState

from hf_gpt_scratch.training import checkpoints
from hf_gpt_scratch.training.arguments import ScratchTrainingArguments
from hf_gpt_scratch.training.pretrain import make_parser
from hf_gpt_scratch.training.resuming import resume_checkpoint
from hf_gpt_scratch.training.run_record import Run
from hf_gpt_scratch.utils.errors import InputError

FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json")


@pytest.fixture
def output_dir(tmp_path):
    """A run's folder with two complete checkpoints and two that the end of the run cut short."""
    for step in (9, 10, 11, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if step < 11:
            TrainerState(global_step=step).save_to_json(tmp_path / f"checkpoint-{step}" / "trainer_state.json")
    (tmp_path / "checkpoint-12" / "trainer_state.json").write_text('{"global_st')
    return tmp_path


def resume(output_dir, wanted: str | None, **settings) -> str | None:
    arguments = {"output_dir": str(output_dir), "resume_from_checkpoint": wanted, "use_cpu": True}
    return resume_checkpoint(ScratchTrainingArguments(**arguments, **settings))


@pytest.mark.parametrize("wanted", ["false", "False"])
def test_a_run_that_is_not_to_be_resumed_starts_afresh_but_not_among_old_checkpoints(output_dir, tmp_path, wanted):
    assert resume(tmp_path / "new", wanted) is None
    with pytest.raises(InputError, match="checkpoints of an earlier run; continue it by omitting --resume"):
        words = ["--data_file", "story.txt", "--output_dir", str(output_dir), "--use_cpu", "true"]
        Run("pretrain", make_parser(), [*words, "--resume_from_checkpoint", wanted])


def test_a_new_run_starts_afresh_and_so_does_one_that_replaces_another(output_dir, tmp_path):
    assert resume(tmp_path / "new", None) is None
    assert resume(output_dir, None, overwrite_output_dir=True) is None


@pytest.mark.parametrize("wanted", [None, "true", "True", "yes", "on"])
def test_run_resumes_from_its_last_complete_checkpoint(output_dir, wanted):
    assert resume(output_dir, wanted) == str(output_dir / "checkpoint-10")


@pytest.mark.parametrize("name", ["checkpoint-9", "best"])
def test_run_resumes_from_the_checkpoint_named(output_dir, name):
    (output_dir / "checkpoint-9").rename(output_dir / name)
    assert resume(output_dir / "elsewhere", str(output_dir / name)) == str(output_dir / name)


@pytest.mark.parametrize("other", ["checkpoint-best", "checkpoint-10-copy"])
def test_folders_that_only_look_like_checkpoints_are_passed_over(output_dir, other):
    (output_dir / "checkpoint-9").rename(output_dir / other)
    assert resume(output_dir, "true") == str(output_dir / "checkpoint-10")


@pytest.mark.parametrize(
    "folder, wanted", [("absent", "true"), ("empty", "true"), ("", "checkpoint-11"), ("", "absent")]
)
def test_nothing_to_resume_from_is_refused(output_dir, folder, wanted):
    (output_dir / "empty").mkdir()
    with pytest.raises(InputError, match="no complete checkpoint"):
        resume(output_dir / folder, wanted if wanted == "true" else str(output_dir / wanted))


@pytest.fixture
def saved(tmp_path):
    """A run's folder with checkpoints of this version at steps 4, 8 and 12."""
    for step in (4, 8, 12):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in FILES:
            (folder / name).write_bytes(bytes(range(100)))
        state = TrainerState(global_step=step, best_model_checkpoint=str(tmp_path / "checkpoint-4"))
        state.stateful_callbacks = {"TrainedOn": {"args": {"record": {checkpoints.MARK: True}}}}
        state.save_to_json(folder / "trainer_state.json")
        checkpoints.write_manifest(folder)
    return tmp_path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-7]), "bytes, not"),
    "emptied": (lambda path: path.write_bytes(b""), "has 0 bytes"),
    "flipped": (flip, "has other bytes than were saved"),
    "missing": (lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(saved, damage, name, capsys):
    do, said = DAMAGES[damage]
    do(saved / "checkpoint-12" / name)
    assert resume(saved, None) == str(saved / "checkpoint-8")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {saved}/checkpoint-12 is damaged ({name} ") and said in line
    assert line.endswith("; going on from checkpoint-8.")
    with pytest.raises(InputError, match=f"{name} .*omit --resume_from_checkpoint"):
        resume(saved, str(saved / "checkpoint-12"))


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(b""), lambda path: path.write_text("[]")])
def test_a_damaged_manifest_is_a_damaged_checkpoint(saved, damage, capsys):
    damage(saved / "checkpoint-12" / checkpoints.MANIFEST)
    assert resume(saved, "true") == str(saved / "checkpoint-8")
    assert "checkpoint-12 is damaged (" in capsys.readouterr().err


def test_a_checkpoint_without_its_manifest_was_not_saved_to_its_end(saved, capsys):
    (saved / "checkpoint-12" / checkpoints.MANIFEST).unlink()
    assert resume(saved, None) == str(saved / "checkpoint-8") and not capsys.readouterr().err
    for step in (4, 8):
        (saved / f"checkpoint-{step}" / checkpoints.MANIFEST).unlink()
    assert resume(saved, None) is None  # killed within its first save: nothing is lost by starting anew


@pytest.mark.parametrize("size", ["abc", None, [], 10**400])
def test_a_manifest_with_another_size_is_told(saved, capsys, size):
    manifest = saved / "checkpoint-12" / checkpoints.MANIFEST
    content = json.loads(manifest.read_text())
    content["files"][checkpoints.STATE]["size"] = size
    manifest.write_text(json.dumps(content))
    assert resume(saved, None) == str(saved / "checkpoint-8")
    assert "checkpoint-12 is damaged (" in capsys.readouterr().err


def test_where_all_are_damaged_nothing_is_thrown_away_unasked(saved):
    for step in (4, 8, 12):
        flip(saved / f"checkpoint-{step}" / "optimizer.pt")
    with pytest.raises(InputError, match="checkpoint-12 is damaged .*; begin anew with --overwrite_output_dir true"):
        resume(saved, None)


def test_a_run_that_keeps_its_best_weights_needs_them_whole(saved, capsys):
    flip(saved / "checkpoint-4" / "model.safetensors")
    assert resume(saved, None, load_best_model_at_end=False) == str(saved / "checkpoint-12")
    with pytest.raises(InputError, match="checkpoint-4, the best one before it, is damaged"):
        resume(saved, None)


@pytest.mark.parametrize("best", ["x" * 300, "out/..", "checkpoint-\0", "checkpoint-best", "checkpoint-" + "9" * 5000])
def test_a_best_checkpoint_that_can_be_none_is_told(saved, best):
    for step in (4, 8, 12):
        state = saved / f"checkpoint-{step}" / checkpoints.STATE
        state.write_text(json.dumps(json.loads(state.read_text()) | {"best_model_checkpoint": best}))
        checkpoints.write_manifest(state.parent)
    with pytest.raises(InputError, match=r"the best one before it, is no checkpoint\)"):
        resume(saved, None)
    assert resume(saved, None, load_best_model_at_end=False) == str(saved / "checkpoint-12")


@pytest.mark.parametrize("best", ["", ".", "/", None, 4])
def test_no_best_checkpoint_is_needed_where_none_is_named(saved, best):
    state = saved / "checkpoint-12" / checkpoints.STATE
    state.write_text(json.dumps(json.loads(state.read_text()) | {"best_model_checkpoint": best}))
    checkpoints.write_manifest(state.parent)
    assert resume(saved, None) == str(saved / "checkpoint-12")


def steps(folder) -> list[int]:
    return [checkpoints.step_of(path) for path in checkpoints.checkpoints(folder)]


@pytest.mark.parametrize(
    ("newest", "limit", "best", "left"),
    [
        (12, 2, None, [8, 12]),
        (12, 1, None, [12]),
        (12, 2, 4, [4, 12]),
        (12, 1, 4, [4, 12]),
        (12, None, None, [4, 8, 12]),
        (8, 2, None, [4, 8]),  # 12 is of a run that went on from 4 since
        (4, 2, 4, [4, 12]),
    ],
)
def test_the_newest_and_the_best_are_never_deleted(saved, newest, limit, best, left):
    best = best and str(saved / f"checkpoint-{best}")
    checkpoints.rotate(saved, saved / f"checkpoint-{newest}", limit, best)
    assert steps(saved) == left


def test_what_is_kept_beside_the_newest_is_a_checkpoint_to_go_on_from(saved):
    """Of three there is room for two: 8 could not go on without 4, its best, and 12 is the best now."""
    checkpoints.rotate(saved, saved / "checkpoint-12", 2, str(saved / "checkpoint-12"))
    assert steps(saved) == [4, 12]
    flip(saved / "checkpoint-12" / "model.safetensors")
    assert resume(saved, None) == str(saved / "checkpoint-4")


def test_a_manifest_names_every_file(saved):
    files = json.loads((saved / "checkpoint-8" / checkpoints.MANIFEST).read_text())["files"]
    assert sorted(files) == sorted(FILES) and files["optimizer.pt"]["size"] == 100


def test_a_link_to_a_checkpoint_is_removed_alone(saved):
    [*_, newest] = sorted(saved.glob("checkpoint-*"))
    link = saved / "checkpoint-99"
    link.symlink_to(newest, target_is_directory=True)
    checkpoints.remove(link)
    assert not link.is_symlink() and checkpoints.is_complete(newest)
