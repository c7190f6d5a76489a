"""`hf-gpt-scratch push`: a checked folder with its card, in one commit to the Hub, loaded back from there."""

import argparse
from pathlib import Path

from ..utils.files import require_folder
from ..utils.terminal import quieten_transformers
from .arguments import add_trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks a model's folder, makes its card from what was measured, uploads both in one commit, and loads the"
        " pushed revision back. The token is HF_TOKEN's or that of `hf auth login`."
    )
    parser.epilog = "Example: hf-gpt-scratch push runs/spam you/spam --private --dry-run"
    parser.add_argument("dir", metavar="DIR", help="the folder of a model or an adapter")
    parser.add_argument("repo_id", metavar="REPO_ID", help="such as you/your-model")
    parser.add_argument("--private", action="store_true", default=None, help="only you can see the repository")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="propose it as a pull request")
    parser.add_argument(
        "--license", help="of the weights, such as mit (default: that of the card there, if it has one)"
    )
    parser.add_argument("--language", help="of its texts, such as en (default: that of the data, where it is known)")
    parser.add_argument("--dry-run", action="store_true", help="check, and list what would be uploaded, no more")
    add_trust(parser)


def check(args: argparse.Namespace) -> None:
    """What can be seen before torch is imported."""
    require_folder(args.dir, "model folder")


def run(args: argparse.Namespace) -> None:
    """The command: prints the checks, what is uploaded where, and how it loads from there."""
    from ..hub.push import checked_files, push

    quieten_transformers()
    options = {"trust_remote_code": args.trust_remote_code, "license": args.license, "language": args.language}
    if not args.dry_run:
        push(args.dir, args.repo_id, args.private, args.revision, args.create_pr, report=print, **options)
        return
    files = checked_files(args.dir, args.repo_id, report=print, **options)
    for name, content in files.items():
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        print(f"{size:>14,}  {name}")
    print(f"These {len(files)} files would be pushed to {args.repo_id}; nothing was.")
