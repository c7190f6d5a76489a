"""
The command `hf-gpt-scratch`, beside the package so that `--help`, `--version` and wrong usage are answered before
torch and transformers are imported: `hf_gpt_scratch/__init__.py` sees that the command begins, and waits.
"""

import logging
import os
import sys

# PyTorch's threads (GNU OpenMP) wait for each other by spinning. Beside other work on the same cores, steps of a small
# model then take 15 times as long as with a short spin, which costs nothing on idle ones. Torch reads it as it loads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Where bitsandbytes is installed, importing transformers' Trainer imports it, and on a CPU it has a line to say.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

registers_later = False  # whether the command registers the Auto classes itself, once it knows what to do


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 1 when it failed, or 2 for wrong usage."""
    global registers_later
    registers_later = True
    from hf_gpt_scratch.cli import main

    return main(argv)


def run() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":  # `python -m hf_gpt_scratch_cli`: again under its own name, where the package looks for it
    from hf_gpt_scratch_cli import run

    run()
