"""`--adapter NAME=FOLDER` of `chat` and `app chat`: LoRA adapters of one base model to switch between."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.errors import UsageError
from .arguments import placement, require_model

if TYPE_CHECKING:
    from ..generation.adapters import AdapterSet


def add_adapters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adapter",
        metavar="NAME=FOLDER",
        action="append",
        help="a LoRA adapter of the model DIR, to be switched to by its name; may be given several times, and DIR is"
        " in memory once",
    )


def adapters_of(args: argparse.Namespace) -> dict[str, str]:
    """The folders of `--adapter` by their names; a folder without a name goes by its own."""
    found: dict[str, str] = {}
    for text in args.adapter or ():
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = Path(text).name, text
        if not name.strip() or not folder.strip():
            raise UsageError(f"--adapter takes NAME=FOLDER, not {text!r}.")
        if name in found:
            raise UsageError(f"There are two adapters {name}; give each a name of its own, as --adapter NAME=FOLDER.")
        found[name] = folder
    return found


def check_adapters(args: argparse.Namespace) -> None:
    """Raises `InputError` for what can be seen before torch is imported."""
    for folder in adapters_of(args).values():
        require_model(folder)


def load_adapters(args: argparse.Namespace) -> "AdapterSet | None":
    """The adapters on the model DIR, placed as the options say; `None` where none are given."""
    adapters = adapters_of(args)
    if not adapters:
        return None
    from ..generation.adapters import AdapterSet
    from ..utils.terminal import quieten_transformers

    quieten_transformers()
    return AdapterSet(args.dir, adapters, **placement(args))
