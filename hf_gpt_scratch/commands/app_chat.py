"""`hf-gpt-scratch app chat`: the page to chat with an instruction follower."""

import argparse

from ..utils.errors import UsageError
from .adapter_options import adapters_of, add_adapters, check_adapters
from .app_options import add_model_arguments, check_model_arguments, export_static_page, serve_or_export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch app chat runs/demo/follower\n"
        "  hf-gpt-scratch app chat runs/base --adapter airline=runs/airline --adapter studies=runs/studies\n"
        "  hf-gpt-scratch app chat runs/airline --export-static runs/page"
    )
    add_model_arguments(
        parser, "a folder or Hub repository (owner/name) of an instruction-tuned model or its LoRA adapter"
    )
    add_adapters(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    check_model_arguments(args)
    check_adapters(args)
    if args.adapter and (args.export_space or args.export_static):
        raise UsageError("--adapter is for a page that is served; export the page of one adapter alone.")


def run(args: argparse.Namespace) -> None:
    """The command."""
    if args.export_static:
        from ..apps.static_chat import static_page

        return export_static_page(args, static_page, is_classifier=False)
    from ..apps import chat

    serve_or_export(args, chat, **({"adapters": adapters} if (adapters := adapters_of(args)) else {}))
