"""`hf-gpt-scratch app chat`: the page to chat with an instruction follower."""

import argparse

from .app_options import add_model_arguments, check_model_arguments, serve_or_export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Example: hf-gpt-scratch app chat runs/demo/follower"
    add_model_arguments(
        parser, "a folder or Hub repository (owner/name) of an instruction-tuned model or its LoRA adapter"
    )


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    check_model_arguments(args)


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..apps import chat

    serve_or_export(args, chat)
