"""
Trains a spam classifier on the SMS Spam Collection with transformers' Trainer, and measures it beside a linear model.

    python training/finetune_spam.py training/configs/spam/cpu_small.yaml --output_dir runs/spam

The same as `hf-gpt-scratch train spam`, as a file for torchrun, accelerate and Colab.
"""

from hf_gpt_scratch.training.spam import main

if __name__ == "__main__":
    import sys

    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
