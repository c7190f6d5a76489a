"""`hf-gpt-scratch check`: whether a model's folder loads anywhere, and holds nothing that should stay private."""

import argparse
import re
from pathlib import Path

from ..utils.errors import InputError, UsageError
from ..utils.files import is_missing_folder
from ..utils.terminal import quieten_transformers
from .arguments import add_trust, require_usable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks that a model's folder loads where this package is not installed, and is ready to be shared. Only this"
        " package's own code in the folder is run."
    )
    parser.epilog = "Example: hf-gpt-scratch check runs/demo/spam"
    parser.add_argument("dir", metavar="DIR", help="the folder of a model or an adapter, or a Hub repository")
    parser.add_argument(
        "--record", action="store_true", help="first record its logits, which later checks compare with"
    )
    add_base_model(parser)
    add_trust(parser)


def add_base_model(parser: argparse.ArgumentParser) -> None:
    """The option for adapters that were trained on a local folder."""
    parser.add_argument(
        "--base-model",
        metavar="REPO",
        help="of an adapter that was trained on a local folder: the Hub repository which that folder was pushed to",
    )


def check(args: argparse.Namespace) -> None:
    """What can be checked before torch is imported."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", args.dir) and not is_missing_folder(args.dir) and not Path(args.dir).exists():
        if args.record:
            raise UsageError(f"--record is for a folder, and {args.dir} is a Hub repository: omit it.")
        return
    require_model_folder(args.dir)


def require_model_folder(path: str) -> None:
    """Raises `InputError` unless there is a folder of this name, and as `require_usable`."""
    if not Path(path).exists():
        raise InputError(f"{path}: there is no such folder; give the folder that the model was saved in.")
    if not Path(path).is_dir():
        raise InputError(f"{path} is a file; give the folder that the model was saved in.")
    require_usable(path)


def run(args: argparse.Namespace) -> None:
    """
    The command: prints a line for each check.

    Raises:
        InputError: when the folder holds no model, or, after the table was printed, a check failed.
    """
    from ..hub.check import check_source
    from ..hub.findings import require, table
    from ..pretrained import record_reference_logits

    quieten_transformers()
    if args.record:
        record_reference_logits(args.dir)
    findings = check_source(args.dir, args.trust_remote_code, args.base_model)
    print(table(findings))
    require(findings, args.dir)
    if Path(args.dir).exists():
        print(f"{args.dir} can be shared: `hf-gpt-scratch push {args.dir} OWNER/NAME`.")
