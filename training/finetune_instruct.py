"""
Teaches a language model to follow instructions, with transformers' Trainer, then lets it answer the test set.

    python training/finetune_instruct.py cpu_small --output_dir runs/instruct

The same as `hf-gpt-scratch train instruct`, as a file for torchrun, accelerate and Colab.
"""

import sys

from hf_gpt_scratch_cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "instruct", *sys.argv[1:]]))
