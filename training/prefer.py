# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-gpt-scratch[lora,trl] @ git+https://github.com/hf-gpt-scratch/hf_gpt_scratch@v0.2.0"]
# ///
"""
Trains an instruction follower on preferences, with TRL's DPOTrainer.

    python training/prefer.py cpu_small --data_file prefs.jsonl --output_dir runs/preferred

The same as `hf-gpt-scratch train prefer`, as a file for torchrun, accelerate, Colab and rented machines, where
`uv run` of its address installs what the lines at the top ask for (docs/serving.md).
"""

import sys

from hf_gpt_scratch_cli import run


def main(argv: list[str]) -> None:
    run(["train", "prefer", *argv], program="training/prefer.py")


if __name__ == "__main__":
    main(sys.argv[1:])
