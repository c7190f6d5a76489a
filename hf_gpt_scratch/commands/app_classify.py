"""`hf-gpt-scratch app classify`, or `app spam`: the page of a classifier that scores after every word."""

import argparse

from .app_options import add_model_arguments, check_model_arguments, export_static_page, serve_or_export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch app classify runs/demo/spam\n"
        "  hf-gpt-scratch app classify runs/demo/spam --export-static runs/page"
    )
    add_model_arguments(parser, "a folder or Hub repository (owner/name) of a classifier")


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    check_model_arguments(args)


def run(args: argparse.Namespace) -> None:
    """The command."""
    if args.export_static:
        from ..apps.static_classify import static_page

        return export_static_page(args, static_page, is_classifier=True)
    from ..apps import classify

    serve_or_export(args, classify)
