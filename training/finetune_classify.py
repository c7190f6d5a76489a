# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-gpt-scratch @ git+https://github.com/hf-gpt-scratch/hf_gpt_scratch@v0.2.0"]
# ///
"""
Trains a classifier on labelled texts of your own with transformers' Trainer, and measures it beside a linear model.

    python training/finetune_classify.py cpu_small --data_file tickets.csv --output_dir runs/tickets

The same as `hf-gpt-scratch train classify`, as a file for torchrun, accelerate, Colab and rented machines, where
`uv run` of its address installs what the lines at the top ask for (docs/serving.md).
"""

import sys

from hf_gpt_scratch_cli import run


def main(argv: list[str]) -> None:
    run(["train", "classify", *argv], program="training/finetune_classify.py")


if __name__ == "__main__":
    main(sys.argv[1:])
