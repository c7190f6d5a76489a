"""Commands run in the process of a test."""

import argparse

from hf_gpt_scratch.cli import make_parser

USING = "Using cpu, float32.\n"  # on stderr, once a model is loaded


def run_command(*words) -> int | None:
    """What `hf-gpt-scratch` does with the words, but that errors are raised and not printed."""
    argv = [str(word) for word in words]
    args = make_parser().parse_args(argv, argparse.Namespace(argv=argv, program=None))
    if args.check:
        args.check(args)
    return args.run(args)
