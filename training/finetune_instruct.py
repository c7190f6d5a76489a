# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-gpt-scratch[lora] @ git+https://github.com/hf-gpt-scratch/hf_gpt_scratch@v0.2.0"]
# ///
"""
Teaches a language model to follow instructions, with transformers' Trainer, then lets it answer the test set.

    python training/finetune_instruct.py cpu_small --output_dir runs/instruct

The same as `hf-gpt-scratch train instruct`, as a file for torchrun, accelerate, Colab and rented machines, where
`uv run` of its address installs what the lines at the top ask for (docs/serving.md).
"""

import sys

from hf_gpt_scratch_cli import run


def main(argv: list[str]) -> None:
    run(["train", "instruct", *argv], program="training/finetune_instruct.py")


if __name__ == "__main__":
    main(sys.argv[1:])
