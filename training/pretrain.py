"""
Pretrains a GPT on plain text with transformers' Trainer: "The Verdict" by default, files, or a Hub data set.

    python training/pretrain.py cpu_small --output_dir runs/verdict

The same as `hf-gpt-scratch train pretrain`, as a file for torchrun, accelerate and Colab.
"""

import sys

from hf_gpt_scratch_cli import run


def main(argv: list[str]) -> None:
    run(["train", "pretrain", *argv], program="training/pretrain.py")


if __name__ == "__main__":
    main(sys.argv[1:])
