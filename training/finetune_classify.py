"""
Trains a classifier on labelled texts of your own with transformers' Trainer, and measures it beside a linear model.

    python training/finetune_classify.py cpu_small --data_file tickets.csv --output_dir runs/tickets

The same as `hf-gpt-scratch train classify`, as a file for torchrun, accelerate and Colab.
"""

import sys

from hf_gpt_scratch_cli import run


def main(argv: list[str]) -> None:
    run(["train", "classify", *argv], program="training/finetune_classify.py")


if __name__ == "__main__":
    main(sys.argv[1:])
