"""`hf-gpt-scratch push`: checks a folder, uploads it with its model card in one commit, and loads it back."""

import argparse
import re
import shlex
from pathlib import Path

from ..utils.constants import NO_NAME, NO_TOKEN
from ..utils.errors import InputError, UsageError
from ..utils.terminal import quieten_transformers
from .arguments import add_trust
from .check import add_base_model, require_model_folder

OF_A_MODEL = {
    "revision": "--revision",
    "create_pr": "--create-pr",
    "license": "--license",
    "language": "--language",
    "base_model": "--base-model",
    "with_twin": "--with-twin",
    "with_handler": "--with-handler",
    "trust_remote_code": "--trust-remote-code",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks a model's folder, writes its model card from what was measured, uploads both in one commit, and loads"
        " the pushed revision back. The token is taken from HF_TOKEN or `hf auth login`."
    )
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch push runs/demo/spam you/spam --private --dry-run\n"
        "  hf-gpt-scratch push runs/page you/page --space"
    )
    parser.add_argument("dir", metavar="DIR", help="the folder of a model or an adapter; with --space that of a page")
    parser.add_argument("repo_id", metavar="REPO_ID", help="the repository, such as you/your-model")
    parser.add_argument("--private", action="store_true", default=None, help="only you can see the repository")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    parser.add_argument(
        "--license", help="of the weights, such as mit (default: that of the repository's card, if it has one)"
    )
    parser.add_argument("--language", help="of the texts, such as en (default: that of the data, where it is known)")
    add_base_model(parser)
    parser.add_argument(
        "--with-twin",
        action="store_true",
        help="also push the model as stock GPT-2 to the branch gpt2, which loads without trust_remote_code",
    )
    parser.add_argument(
        "--with-handler",
        action="store_true",
        help="also push handler.py, which answers on Hugging Face Inference Endpoints",
    )
    parser.add_argument(
        "--with-onnx",
        action="store_true",
        help="also push the twin with ONNX graphs beside it, for transformers.js in Node and browsers",
    )
    parser.add_argument(
        "--no-examples",
        dest="examples",
        action="store_false",
        help="show no texts of the test set in the model card (default: one for each label, or three instructions)",
    )
    parser.add_argument(
        "--space",
        action="store_true",
        help="push a page, which `app classify` or `app chat` has written with --export-static, as a Space",
    )
    parser.add_argument("--dry-run", action="store_true", help="only check, list the files and print the model card")
    add_trust(parser)


def check(args: argparse.Namespace) -> None:
    """What can be checked before torch is imported."""
    require_model_folder(args.dir)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", args.repo_id, re.ASCII):
        raise UsageError(NO_NAME.format(args.repo_id))
    given = [option for name, option in OF_A_MODEL.items() if getattr(args, name)]
    if args.space and given:
        raise UsageError(f"{given[0]} is for a model; omit it with --space.")
    if not args.dry_run:
        from huggingface_hub import get_token

        if get_token() is None:
            raise InputError(NO_TOKEN)


def run(args: argparse.Namespace) -> None:
    """The command: prints the checks, the address of the commit, and how it loads from there."""
    if args.space:
        return _push_space(args)
    from ..hub.check import open_folder
    from ..hub.push import checked_files, push
    from ..hub.twin import BRANCH, made_twin, require_possible

    quieten_transformers()
    options = {
        "trust_remote_code": args.trust_remote_code,
        "license": args.license,
        "language": args.language,
        "base_model": args.base_model,
        "examples": args.examples,
        "with_handler": args.with_handler,
    }
    if not args.dry_run:
        options |= {"with_twin": args.with_twin, "with_onnx": args.with_onnx}
        pushed = push(args.dir, args.repo_id, args.private, args.revision, args.create_pr, report=print, **options)
        if not args.revision and not args.create_pr:  # it is what the repository's name loads
            _print_next(args, pushed.auto_class)
        return
    with_twin = args.with_twin or args.with_onnx
    if with_twin:
        require_possible(open_folder(args.dir, args.base_model), args.revision, args.create_pr)
    files = checked_files(args.dir, args.repo_id, report=print, **options)
    for name, content in files.items():
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        print(f"{size:>14,}  {name}")
    print("\nThe model card, README.md:\n")
    card = files["README.md"]
    print(card.read_text(encoding="utf-8") if isinstance(card, Path) else card.decode())
    if with_twin:
        with made_twin(open_folder(args.dir), args.trust_remote_code, args.with_onnx) as twin:
            names = ", ".join(sorted({*twin.files(), "README.md"}))
        print(f"Its twin as stock GPT-2, for the branch {BRANCH}: {names}.")
    print(f"A dry run: these {len(files)} files would be pushed to {args.repo_id}; nothing was pushed.")


def _push_space(args: argparse.Namespace) -> None:
    """Pushes a page, or lists its files."""
    from ..hub.push_space import push_space, space_files, space_sdk

    if not args.dry_run:
        push_space(args.dir, args.repo_id, args.private, report=print)
        return
    files, sdk = space_files(args.dir), space_sdk(args.dir)
    for name, path in files.items():
        print(f"{path.stat().st_size:>14,}  {name}")
    print(
        f"A dry run: these {len(files)} files would be pushed to {args.repo_id} as a {sdk} Space; nothing was pushed."
    )


def _print_next(args: argparse.Namespace, auto_class: str) -> None:
    """Prints the command that uses the pushed model, where there is one for its kind."""
    from ..hub.model_card import chat_template, texts_shown

    if auto_class.endswith("ForCausalLM"):
        print(f"Next: hf-gpt-scratch {'chat' if chat_template(Path(args.dir)) else 'generate'} {args.repo_id}")
    elif auto_class.endswith("Classification"):
        [*_, text] = ["A message to classify", *(texts_shown(args.dir) if args.examples else ())]
        print(f"Next: hf-gpt-scratch classify {args.repo_id} {shlex.quote(text)}")
