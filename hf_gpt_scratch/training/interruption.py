"""What whoever ends a training job by Ctrl-C or SIGTERM is told. Imports nothing heavy."""

import os

from ..utils.errors import Terminated
from ..utils.provenance import shown_path
from .checkpoints import complete_checkpoints


def interrupted(interruption: KeyboardInterrupt) -> str:
    """The word for what happened."""
    return "Terminated" if isinstance(interruption, Terminated) else "Interrupted"


def unless_anew(overwrite: bool) -> str:
    """What is to be left out of the command that is repeated, given whether it replaces an earlier run."""
    return " without --overwrite_output_dir" if overwrite else ""


def how_to_go_on(interruption: KeyboardInterrupt, output_dir: str | os.PathLike, overwrite: bool) -> str:
    """What is kept of a run that has begun, and how it goes on."""
    if not (kept := complete_checkpoints(output_dir)):
        return f"{interrupted(interruption)} before the first checkpoint was saved: the same command begins anew."
    goes_on = f"the same command{unless_anew(overwrite)} goes on from it"
    return f"{interrupted(interruption)}; {shown_path(kept[-1])} is kept: {goes_on}."
