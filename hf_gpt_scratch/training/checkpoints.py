"""
The checkpoints of a run, each with a manifest of its files: it is written last, so a checkpoint that has one was saved
to its end, and one whose files are not those of its manifest was damaged since. Imports nothing heavy.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

from ..utils.errors import InputError
from ..utils.files import sync, sync_entries, write_json

NAME = re.compile(r"checkpoint-[0-9]{1,18}")  # as Trainer names them
MANIFEST = "manifest.json"
STATE = "trainer_state.json"  # Trainer's own, which it writes last
PROGRESS = "progress_{}.json"  # by each process: what Trainer keeps in memory (`exact_trainer`)
MARK = "has_manifest"  # in the record of every checkpoint of a version that writes manifests


def checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The folders of checkpoints in a run's folder, in the order of their steps."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def complete_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The checkpoints in `output_dir` that were saved to their end, in the order of their steps."""
    return [folder for folder in checkpoints(output_dir) if is_complete(folder)]


def is_complete(checkpoint: Path) -> bool:
    """Whether it was saved to its end, damaged since or not; in versions before 0.2.0 Trainer's state was the end."""
    if (checkpoint / MANIFEST).is_file():
        return True
    state = _read(checkpoint / STATE)
    return "global_step" in state and MARK not in record_in(state)


def record_in(state: dict) -> dict:
    """The record of `resuming` in Trainer's state; empty in one of an older version."""
    callbacks = state.get("stateful_callbacks")
    try:
        record = callbacks["TrainedOn"]["args"]["record"]
    except (KeyError, TypeError):
        return {}
    return record if isinstance(record, dict) else {}


def saved_record(checkpoint: Path) -> dict:
    """That of a checkpoint."""
    return record_in(_read(checkpoint / STATE))


def write_manifest(checkpoint: Path) -> None:
    """Writes all of a checkpoint to the disk, and then its manifest."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)
    sync(checkpoint)
    write_json(
        checkpoint / MANIFEST, {"files": {path.relative_to(checkpoint).as_posix(): _described(path) for path in files}}
    )
    sync_entries(checkpoint.parent)


def fault(checkpoint: Path, with_best: bool = False) -> str | None:
    """
    Why a run cannot go on from a checkpoint; `None` where it can.

    Args:
        with_best: its best checkpoint is needed too, whose weights the run may end with.
    """
    if not is_complete(checkpoint):
        return "it was not saved to its end"
    if damage := _damage(checkpoint):
        return damage
    best = _best_before(checkpoint)
    if not with_best or best is None or best == checkpoint.name:
        return None
    if not NAME.fullmatch(best):
        return f"{best[:80]!r}, the best one before it, is no checkpoint"
    folder = checkpoint.with_name(best)
    if not folder.is_dir():
        return f"{folder.name}, the best one before it, is missing"
    reason = fault(folder)
    return reason and f"{folder.name}, the best one before it, is damaged: {reason}"


def _best_before(checkpoint: Path) -> str | None:
    """The name of the best checkpoint up to this one, perhaps itself."""
    best = _read(checkpoint / STATE).get("best_model_checkpoint")
    return (Path(best).name or None) if isinstance(best, str) else None


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint that was saved to its end."""
    if not (checkpoint / MANIFEST).is_file():  # of an older version
        return None if "global_step" in _read(checkpoint / STATE) else f"{STATE} cannot be read"
    files = _read(checkpoint / MANIFEST).get("files")
    if not isinstance(files, dict) or STATE not in files:
        return f"{MANIFEST} cannot be read"
    for name, saved in files.items():
        path = checkpoint / name
        try:
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != saved["size"]:
                return f"{name} has {path.stat().st_size:,} bytes, not {saved['size']:,}"
            if _described(path) != saved:
                return f"{name} has other bytes than were saved"
        except (OSError, TypeError, ValueError, KeyError):
            return f"{name} cannot be read"
    return None


def last_good(output_dir: str | os.PathLike, with_best: bool = False) -> Path | None:
    """
    The newest checkpoint that a run can go on from, after a note on each damaged one that is newer; `None` where there
    is none yet.

    Raises:
        InputError: when there are checkpoints that were saved to their end, but all are damaged.
    """
    damaged = []
    for folder in reversed(checkpoints(output_dir)):
        reason = fault(folder, with_best)
        if reason is None:
            if damaged:
                print(f"note: {'; '.join(damaged)}; going on from {folder.name}.", file=sys.stderr)
            return folder
        if is_complete(folder):
            damaged.append(f"{folder} is damaged ({reason})")
    if damaged:
        raise InputError(
            f"{'; '.join(damaged)}, and there is no other checkpoint to go on from; begin anew with"
            " --overwrite_output_dir true."
        )
    return None


def rotate(output_dir: str | os.PathLike, newest: Path, limit: int | None, best: str | None) -> None:
    """
    Deletes the oldest checkpoints, but never the newest, which was just saved to its end, nor the best. Where a best
    one counts, one that was the best before is kept rather than one of which it is needed and has no room.

    Args:
        limit: how many to keep; `None` or 0 for all.
    """
    if not limit or limit < 0:
        return
    kept = {newest.name, Path(best).name if best else newest.name}
    others = [folder for folder in checkpoints(output_dir) if folder.name not in kept]
    # Those of later steps are of a run that went on from an earlier checkpoint since
    others.sort(key=lambda folder: (step_of(folder) <= step_of(newest), step_of(folder)), reverse=True)
    for folder in others:
        needed = {folder.name} | ({_best_before(folder) or folder.name} if best else set())
        if len(kept | needed) <= limit:
            kept |= needed
    for folder in reversed(others):
        if folder.name not in kept:
            remove(folder)


def remove(checkpoint: Path) -> None:
    """Deletes a checkpoint, what says that it is one first."""
    if checkpoint.is_symlink():  # what it leads to is another's
        checkpoint.unlink()
        return
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    (checkpoint / STATE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _described(path: Path) -> dict:
    with open(path, "rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _read(path: Path) -> dict:
    """The object in a JSON file; empty where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
