"""A page's folder as a Space of the Hub: a static one, or one that runs Gradio."""

import os
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import get_token

from ..utils.constants import NO_TOKEN
from ..utils.errors import InputError
from .files import require_no_secrets
from .findings import CheckFailed
from .repository import hub_errors, upload

SDKS = ("static", "gradio")  # of pages of this package
STALE = ("assets-*",)  # of an earlier export


def push_space(
    folder: str | os.PathLike,
    repo_id: str,
    private: bool | None = None,
    report: Callable[[str], object] = lambda text: None,
) -> str:
    """
    Uploads a page that `app classify` or `app chat` has written to a Space, in one commit, which also deletes the
    files of an earlier export, and compares what is there with the folder; returns its address.

    Args:
        private: only the user can see it.
        report: called with each message on the way, such as `print`.

    Raises:
        InputError: when the folder is no such page or holds a secret, or the Hub refuses.
        UsageError: for a name that no repository can have.
    """
    from huggingface_hub import HfApi

    if get_token() is None:
        raise InputError(NO_TOKEN)
    files, sdk = space_files(folder), space_sdk(folder)
    api = HfApi()
    with hub_errors(repo_id):
        address = api.create_repo(repo_id, repo_type="space", space_sdk=sdk, private=private, exist_ok=True)
        if private and not api.space_info(repo_id).private:
            raise InputError(f"{repo_id} exists and is public: make it private in its settings on the Hub first.")
        there = api.list_repo_files(repo_id, repo_type="space")
        _, revision = upload(files, there, repo_id, None, False, STALE, repo_type="space")
        report(f"Pushed {len(files)} files to {address} (commit {revision[:7]}).")
        tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="space")
        sizes = {one.path: one.size for one in tree if hasattr(one, "size")}
    wrong = [name for name, path in files.items() if sizes.get(name) != path.stat().st_size]
    if wrong:
        raise InputError(f"{repo_id} was pushed, but {wrong[0]} is not there as it is here: push again.")
    return str(address)


def space_sdk(folder: str | os.PathLike) -> str:
    """What runs the page, "static" or "gradio"; raises `InputError` where the folder is not a page of this package."""
    readme = Path(folder, "README.md")
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines() if readme.is_file() else []
    found = [sdk for sdk in SDKS if f"sdk: {sdk}" in lines]
    if not found:
        raise InputError(
            f"{folder} is not a page: write one with `hf-gpt-scratch app classify DIR --export-static OUT`, and push"
            " that folder."
        )
    return found[0]


def space_files(folder: str | os.PathLike) -> dict[str, Path]:
    """The files of a push by name; raises `InputError` where one holds a secret."""
    paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    read = {name: path for name, path in files.items() if ".onnx." not in name}  # of weights
    try:
        require_no_secrets(read, Path(folder))
    except CheckFailed as failure:
        raise InputError(f"{folder} is not fit to share: {failure}.") from None
    return files
