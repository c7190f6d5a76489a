"""
Teaches a language model to follow instructions, with transformers' Trainer, then lets it answer the test set.

    python training/finetune_instruct.py cpu_small --output_dir runs/instruct

The same as `hf-gpt-scratch train instruct`, as a file for torchrun, accelerate and Colab.
"""

import sys

from hf_gpt_scratch_cli import main as hf_gpt_scratch


def main(argv: list[str]) -> int:
    return hf_gpt_scratch(["train", "instruct", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
