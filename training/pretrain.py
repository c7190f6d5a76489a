"""
Pretrains a GPT on plain text with transformers' Trainer: "The Verdict" by default, files, or a Hub data set.

    python training/pretrain.py cpu_small --output_dir runs/verdict

The same as `hf-gpt-scratch train pretrain`, as a file for torchrun, accelerate and Colab.
"""

import sys

from hf_gpt_scratch_cli import main as hf_gpt_scratch


def main(argv: list[str]) -> int:
    return hf_gpt_scratch(["train", "pretrain", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
