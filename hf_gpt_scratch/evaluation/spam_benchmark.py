"""`python -m hf_gpt_scratch.evaluation.spam_benchmark`, as older result cards have it: `hf-gpt-scratch benchmark`."""

import sys

if __name__ == "__main__":
    import hf_gpt_scratch_cli

    sys.exit(hf_gpt_scratch_cli.main(["benchmark", *sys.argv[1:]]))
