"""`python -m hf_gpt_scratch.evaluation.calibration`, as older result cards have it: `hf-gpt-scratch calibrate`."""

from ..utils.console import run_command

if __name__ == "__main__":
    run_command("calibrate")
