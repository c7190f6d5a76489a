"""
The command `hf-gpt-scratch`, beside the package so that `--help`, `--version` and what is wrong with a command are
told before torch and transformers are imported: `hf_gpt_scratch/__init__.py` sees that the command begins, and waits.
"""

import os
import sys

# PyTorch's threads (GNU OpenMP) wait for each other by spinning. Beside other work on the same cores, steps of a small
# model then take 15 times as long as with a short spin, which costs nothing on idle ones. Torch reads it as it loads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

registers_later = False  # while a command begins, which registers the Auto classes itself once it knows what to do


def main(argv: list[str] | None = None) -> int:
    """
    Runs one command and returns its exit status: 0, 1 when it failed, or 2 for wrong usage. Then the package is as if
    it had been imported, its Auto classes registered, whatever became of the command.
    """
    try:
        return _answer(argv)
    finally:
        from hf_gpt_scratch import register

        register()


def run(argv: list[str] | None = None, program: str | None = None) -> None:
    """
    The console script: ends the process with the command's exit status.

    Args:
        argv: the words of the command; by default those of this process.
        program: what was started to run it, such as "training/pretrain.py", where that is to be recorded.
    """
    sys.exit(_answer(argv, program, is_own_process=True))


def _answer(argv: list[str] | None, program: str | None = None, is_own_process: bool = False) -> int:
    global registers_later
    registers_later = True
    try:
        from hf_gpt_scratch.utils.start import forget_working_directory

        if is_own_process:
            forget_working_directory()
        from hf_gpt_scratch.cli import main
        from hf_gpt_scratch.utils.console import never_fail_to_print
    finally:
        registers_later = False
    if is_own_process:
        never_fail_to_print()
    return main(argv, program)


if __name__ == "__main__":  # `python -m hf_gpt_scratch_cli`: again under its own name, where the package looks for it
    from hf_gpt_scratch_cli import run

    run()
