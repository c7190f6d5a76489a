"""`python -m hf_gpt_scratch.evaluation.spam_benchmark`, as older result cards have it: `hf-gpt-scratch benchmark`."""

from ..utils.console import run_command

if __name__ == "__main__":
    run_command("benchmark")
