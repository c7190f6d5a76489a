"""`hf-gpt-scratch app classify`, or `app spam`: the page of a classifier that scores after every word."""

import argparse

from .app_options import add_model_arguments, check_model_arguments, serve_or_export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Example: hf-gpt-scratch app classify runs/demo/spam"
    add_model_arguments(parser, "a folder or Hub repository (owner/name) of a classifier")


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    check_model_arguments(args)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..apps import classify

    serve_or_export(args, classify)
