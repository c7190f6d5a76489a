"""
Pretrains a GPT on plain text with transformers' Trainer: "The Verdict" by default, files, or a Hub data set.

    python training/pretrain.py cpu_small --output_dir runs/verdict

The same as `hf-gpt-scratch train pretrain`, as a file for torchrun, accelerate and Colab.
"""

import sys

from hf_gpt_scratch_cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "pretrain", *sys.argv[1:]]))
