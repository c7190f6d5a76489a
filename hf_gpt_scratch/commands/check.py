"""`hf-gpt-scratch check`: whether a model's folder loads for anyone, anywhere, and holds nothing that should stay."""

import argparse

from ..utils.files import require_folder
from ..utils.terminal import quieten_transformers
from .arguments import add_trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks that a model's folder loads where this package is not installed, and is fit to share. Code in the"
        " folder runs only if it is this package's own."
    )
    parser.epilog = "Example: hf-gpt-scratch check runs/spam"
    parser.add_argument("dir", metavar="DIR", help="the folder of a model or an adapter")
    parser.add_argument(
        "--record", action="store_true", help="first keep its answers as those that later checks compare with"
    )
    add_trust(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    require_folder(args.dir, "model folder")


def run(args: argparse.Namespace) -> None:
    """
    The command: prints a line for each check.

    Raises:
        InputError: when the folder holds no model, or, after the table was printed, a check failed.
    """
    from ..hub.check import check
    from ..hub.findings import require, table
    from ..pretrained import record_reference_logits

    quieten_transformers()
    if args.record:
        record_reference_logits(args.dir)
    findings = check(args.dir, args.trust_remote_code)
    print(table(findings))
    require(findings, args.dir)
