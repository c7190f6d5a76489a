"""Where modules are looked for when a command begins. It imports only what Python itself has imported by then."""

import os
import sys


def forget_working_directory() -> None:
    """
    Takes the folder where a command is started off the path of modules, so that no `torch.py` in it is imported,
    unless this package is there itself, or PYTHONPATH names it in full.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it was deleted
        return
    home = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
    named = [os.path.realpath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(one)]
    if here != home and here not in named:
        sys.path[:] = [one for one in sys.path if os.path.realpath(one) != here]
