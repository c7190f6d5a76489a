# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-gpt-scratch @ git+https://github.com/hf-gpt-scratch/hf_gpt_scratch@v0.2.0"]
# ///
"""
Pretrains a GPT on plain text with transformers' Trainer: "The Verdict" by default, files, or a Hub data set.

    python training/pretrain.py cpu_small --output_dir runs/verdict

The same as `hf-gpt-scratch train pretrain`, as a file for torchrun, accelerate, Colab and rented machines, where
`uv run` of its address installs what the lines at the top ask for (docs/serving.md).
"""

import sys

from hf_gpt_scratch_cli import run


def main(argv: list[str]) -> None:
    run(["train", "pretrain", *argv], program="training/pretrain.py")


if __name__ == "__main__":
    main(sys.argv[1:])
