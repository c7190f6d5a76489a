"""The console script `hf-gpt-scratch`, started by modules that an older version ran by `python -m`."""

import runpy
import sys


def run_command(name: str) -> None:
    """
    Ends this program as `hf-gpt-scratch NAME` with its arguments. The script is run by its name, as by a shell, and
    not imported: this package imports nothing from outside it.
    """
    sys.argv = ["hf-gpt-scratch", name, *sys.argv[1:]]
    runpy.run_module("hf_gpt_scratch_cli", run_name="__main__")
