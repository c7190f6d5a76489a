"""
Pretrains a GPT on plain text with transformers' Trainer: "The Verdict" by default, files, or a Hub data set.

    python training/pretrain.py training/configs/pretrain/cpu_small.yaml --output_dir runs/verdict

The same as `hf-gpt-scratch train pretrain`, as a file for torchrun, accelerate and Colab.
"""

from hf_gpt_scratch.training.pretrain import main

if __name__ == "__main__":
    import sys

    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
