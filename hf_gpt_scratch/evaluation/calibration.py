"""`python -m hf_gpt_scratch.evaluation.calibration`, as older result cards have it: `hf-gpt-scratch calibrate`."""

import sys

if __name__ == "__main__":
    import hf_gpt_scratch_cli

    sys.exit(hf_gpt_scratch_cli.main(["calibrate", *sys.argv[1:]]))
