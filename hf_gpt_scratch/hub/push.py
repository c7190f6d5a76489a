"""`hf-gpt-scratch push`: a checked folder with its card, in one commit to the Hub, loaded back from there."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from . import reference_logits
from .check import check, compare_logits, require, table, uploadable

# Of an earlier push, to be taken away when the new one lacks them.
REPLACED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.py",
    "plots/*.png",
    reference_logits.FILE,
    "training_args.bin",  # these two by a Trainer that pushed each checkpoint
    "samples.jsonl",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks a model's folder, makes its card from what was measured, uploads both in one commit, and loads the"
        " pushed revision back. The token is HF_TOKEN's or that of `hf auth login`."
    )
    parser.add_argument("dir", metavar="DIR", help="the folder of a model or an adapter")
    parser.add_argument("repo_id", metavar="REPO_ID", help="such as you/your-model")
    parser.add_argument("--private", action="store_true", help="only you can see a repository that is made now")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="propose it as a pull request")
    parser.add_argument("--dry-run", action="store_true", help="check, and list what would be uploaded, no more")


def run(args: argparse.Namespace) -> None:
    """The command."""
    if args.dry_run:
        dry_run(Path(args.dir), args.repo_id)
    else:
        push(Path(args.dir), args.repo_id, args.private, args.revision, args.create_pr)


def push(
    folder: Path, repo_id: str, private: bool | None = None, branch: str | None = None, create_pr: bool = False
) -> None:
    """
    Checks a folder, uploads it with its card in one commit, and loads the pushed revision back, printing what it does.

    Raises:
        InputError: when a check fails, the Hub refuses, or what was pushed is not what was saved.
    """
    files = checked_files(folder, repo_id)
    with hub_errors(repo_id):
        url, revision = upload(files, repo_id, private, branch, create_pr)
    print(f"Pushed to {url}.")
    print(load_back(folder, repo_id, revision))


def push_trained(args, repo_id: str) -> None:
    """`push`, where a script's TrainingArguments ask for it; to be called by the main process alone."""
    if args.push_to_hub:
        push(Path(args.output_dir), repo_id, args.hub_private_repo, args.hub_revision)


def dry_run(folder: Path, repo_id: str) -> None:
    """Checks, and lists what would be uploaded; raises `InputError` when a check fails."""
    files = checked_files(folder, repo_id)
    for name, content in files.items():
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        print(f"{size:>14,}  {name}")
    print(f"These {len(files)} files would be pushed to {repo_id}; nothing was.")


def checked_files(folder: Path, repo_id: str) -> dict[str, Path | bytes]:
    """What a repository gets, after the checks, whose table is printed; raises `InputError` when one fails."""
    from huggingface_hub.utils import validate_repo_id

    with hub_errors(repo_id):
        validate_repo_id(repo_id)
    findings = check(folder)
    print(table(findings))
    require(findings, folder)
    return contents(folder, repo_id)


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Makes an `InputError` of one sentence of whatever goes wrong between here and the Hub."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # Of the HTTP library that huggingface_hub is built on, httpx or httpx2 by its version.
    connection_error = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        yield
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is no name of a repository ({' '.join(str(error).split())}).") from None
    except HfHubHTTPError as error:
        raise InputError(refusal(error, repo_id)) from None
    except (OSError, RuntimeError, connection_error) as error:  # RuntimeError: an upload to LFS, after its retries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"The connection for {repo_id} broke off, and changed nothing there ({reason}).") from None


def contents(folder: Path, repo_id: str) -> dict[str, Path | bytes]:
    """What a repository gets, by name: the model's files, and the card, unless the folder's README.md is not ours."""
    from .model_card import MARKER, make_card

    files: dict[str, Path | bytes] = {path.relative_to(folder).as_posix(): path for path in uploadable(folder)}
    readme = files.get("README.md")
    if readme is None or MARKER in readme.read_text(encoding="utf-8"):
        files["README.md"] = str(make_card(folder, repo_id)).encode()
    return files


def upload(
    files: dict[str, Path | bytes], repo_id: str, private: bool | None, branch: str | None, create_pr: bool
) -> tuple[str, str]:
    """One commit of the files, which takes away what an earlier one left; returns its address and its hash."""
    from fnmatch import fnmatch

    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    if branch:
        api.create_branch(repo_id, branch=branch, exist_ok=True)
    there = api.list_repo_files(repo_id, revision=branch)
    stale = [name for name in there if name not in files and any(fnmatch(name, pattern) for pattern in REPLACED)]
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    done = api.create_commit(
        repo_id,
        [*added, *(CommitOperationDelete(name) for name in stale)],
        commit_message="Push of a model by hf-gpt-scratch",
        revision=branch,
        create_pr=create_pr,
    )
    return done.pr_url or done.commit_url, done.oid


def refusal(error, repo_id: str) -> str:
    """The Hub's refusal in a sentence."""
    status = error.response.status_code if error.response is not None else None
    said = (getattr(error, "server_message", None) or str(error)).strip().splitlines()[0]
    if status == 401:
        return "The Hub does not know the token; set HF_TOKEN to one that may write, or run `hf auth login`."
    if status == 403:
        return f"The token may not write to {repo_id}; name a repository of your own, or take a token that may."
    return f"The Hub refused {repo_id} ({said})."


def load_back(folder: Path, repo_id: str, revision: str) -> str:
    """
    Loads the pushed revision in a process without this package and says how far its logits are from those recorded.

    Raises:
        InputError: when it does not load or answers otherwise.
    """
    from .clean_process import load_elsewhere

    reference = reference_logits.read(folder)
    if reference is None:
        return "It was not loaded back: no logits were recorded when it was saved."
    answer = load_elsewhere(repo_id, [reference["auto_class"]], reference, revision)[reference["auto_class"]]
    if "error" in answer:
        raise InputError(f"{repo_id} was pushed, but does not load from there: {answer['error'].rstrip('.')}.")
    finding = compare_logits(answer["logits"], reference["logits"])
    if finding.status == "failed":
        raise InputError(f"{repo_id} was pushed, but its logits {finding.detail}.")
    return f"Loaded back from there by {reference['auto_class']}: its logits {finding.detail}."
