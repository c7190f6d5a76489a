"""The console script `hf-gpt-scratch`, started by modules that an older version ran by `python -m`."""

import runpy
import sys


def run_command(name: str) -> None:
    """
    Ends this program as `hf-gpt-scratch NAME` with its arguments. The script is started by its name, as a shell would,
    and not imported: what is above this package is none of its business.
    """
    sys.argv = ["hf-gpt-scratch", name, *sys.argv[1:]]
    runpy.run_module("hf_gpt_scratch_cli", run_name="__main__")
