"""What the commands of the pages share: their arguments, and a page that is served or written as a Space."""

import argparse

from ..utils.errors import UsageError
from ..utils.files import require_folder, require_new
from ..utils.terminal import quieten_transformers
from .arguments import add_device_options, add_trust, placement


def add_model_arguments(parser: argparse.ArgumentParser, help: str) -> None:
    """Those of a page for one model, whose `DIR` is what `help` says."""
    parser.add_argument("dir", metavar="DIR", help=help)
    parser.add_argument("--export-space", metavar="OUT", help="write a folder that runs by itself, as a Space too")
    add_trust(parser, "with --export-space: ")
    add_device_options(parser)
    add_address_arguments(parser)


def add_address_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="default: the first free one from 7860")


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 65535, not {text}")
    return int(text)


def check_model_arguments(args: argparse.Namespace) -> None:
    """Raises `InputError` for what can be seen before torch is imported."""
    if args.trust_remote_code and not args.export_space:
        raise UsageError(
            "--trust-remote-code is for --export-space; a page that is served runs no code of the folder."
        )
    require_folder(args.dir, "model folder")
    if args.export_space:
        require_new(args.export_space)


def serve_or_export(args: argparse.Namespace, page) -> None:
    """Serves the page of a model, a module of `apps`, or writes it as a Space."""
    quieten_transformers()
    if not args.export_space:
        page.serve(args.dir, args.host, args.port, **placement(args))
        return
    from ..apps.space import export_space

    export_space(args.dir, args.export_space, page, args.trust_remote_code, report=print)
    print(
        f"{args.export_space} holds the page. To start it: cd {args.export_space}; pip install -r requirements.txt;"
        f" python app.py. To publish it: hf upload you/your-space {args.export_space} --repo-type space."
    )
