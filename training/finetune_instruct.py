"""
Teaches a language model to follow instructions, with transformers' Trainer, then lets it answer the test set.

    python training/finetune_instruct.py training/configs/instruct/cpu_small.yaml --output_dir runs/instruct

The same as `hf-gpt-scratch train instruct`, as a file for torchrun, accelerate and Colab.
"""

from hf_gpt_scratch.training.instruct import main

if __name__ == "__main__":
    import sys

    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
