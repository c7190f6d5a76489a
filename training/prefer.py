"""
Trains an instruction follower on preferences, with TRL's DPOTrainer.

    python training/prefer.py cpu_small --data_file prefs.jsonl --output_dir runs/preferred

The same as `hf-gpt-scratch train prefer`, as a file for torchrun, accelerate and Colab.
"""

import sys

from hf_gpt_scratch_cli import run


def main(argv: list[str]) -> None:
    run(["train", "prefer", *argv], program="training/prefer.py")


if __name__ == "__main__":
    main(sys.argv[1:])
