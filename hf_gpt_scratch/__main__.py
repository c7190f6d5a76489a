"""`python -m hf_gpt_scratch`: the command `hf-gpt-scratch`."""

import hf_gpt_scratch_cli

if __name__ == "__main__":
    hf_gpt_scratch_cli.run()
