"""What whoever ends a training job by Ctrl-C or SIGTERM is told. Imports nothing heavy."""

import os
from pathlib import Path

from ..utils.errors import InputError, Terminated
from ..utils.files import read_json_object
from ..utils.provenance import shown_path
from . import configs
from .checkpoints import complete_checkpoints


def interrupted(interruption: KeyboardInterrupt) -> str:
    """The word for what happened."""
    return "Terminated" if isinstance(interruption, Terminated) else "Interrupted"


def left_out(overwrite: bool, resume: str | None = None) -> str:
    """
    What is to be left out of the command that is repeated, which would begin where it began.

    Args:
        overwrite: whether it replaces an earlier run.
        resume: what its `--resume_from_checkpoint` is given.
    """
    if overwrite:
        return " without --overwrite_output_dir"
    return " without --resume_from_checkpoint" if _is_named(resume) else ""


def _is_named(resume: str | None) -> bool:
    """Whether one checkpoint is asked for, not the last one."""
    return configs.is_resumed(resume) and not configs.is_last(resume)


def how_to_go_on(
    interruption: KeyboardInterrupt, output_dir: str | os.PathLike, overwrite: bool, resume: str | None = None
) -> str:
    """
    What is kept of a run, and how it goes on.

    Args:
        overwrite, resume: as of `left_out`.
    """
    if _is_finished(output_dir):  # which was not yet found to be a run of these settings
        return f"{interrupted(interruption)}; the finished run in {shown_path(Path(output_dir))} is as it was."
    if not (kept := complete_checkpoints(output_dir)):
        again = "begins anew"
        if _is_named(resume):  # in another folder
            again = f"goes on from {shown_path(Path(resume))} again"
        elif configs.is_resumed(resume):  # which would find none
            again = "without --resume_from_checkpoint begins anew"
        return f"{interrupted(interruption)} before the first checkpoint was saved: the same command {again}."
    goes_on = f"the same command{left_out(overwrite, resume)} goes on from it"
    return f"{interrupted(interruption)}; {shown_path(kept[-1])} is kept: {goes_on}."


def _is_finished(output_dir: str | os.PathLike) -> bool:
    try:
        return read_json_object(Path(output_dir) / configs.RUN_FILE).get("is_finished") is True
    except (InputError, OSError):
        return False
