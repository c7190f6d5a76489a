"""`hf-gpt-scratch push`: a checked folder with its card, in one commit to the Hub, loaded back from there."""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import ModelCard, get_token

from ..model_folder import reference_logits
from ..model_folder.contents import ADAPTER_CONFIG, OF_THE_MODEL, classes, is_adapter
from ..utils.errors import InputError, UsageError
from .check import add_trust, check, compare_logits, load_elsewhere, tokenizer_loaded
from .files import require_no_leaks, uploadable
from .findings import Failure, find, require, table
from .model_card import is_replaceable, make_card

# Of an earlier push, to be taken away when the new one lacks them; the last by transformers' own Trainer.
REPLACED = (*OF_THE_MODEL, "training_args.bin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks a model's folder, makes its card from what was measured, uploads both in one commit, and loads the"
        " pushed revision back. The token is HF_TOKEN's or that of `hf auth login`."
    )
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


def run(args: argparse.Namespace) -> None:
    """The command."""
    terms = {"license": args.license, "language": args.language}
    if args.dry_run:
        dry_run(Path(args.dir), args.repo_id, args.trust_remote_code, **terms)
    else:
        target = (args.private, args.revision, args.create_pr, args.trust_remote_code)
        push(Path(args.dir), args.repo_id, *target, **terms)


def push(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    trust_remote_code: bool = False,
    **terms: str | None,
) -> None:
    """
    Checks a folder, uploads it with its card in one commit, and loads the pushed revision back, printing what it does.

    Args:
        trust_remote_code: run the folder's code even where it is not this package's own.
        terms: `license` and `language` of `model_card.make_card`.

    Raises:
        InputError: when a check fails, the Hub refuses, or what was pushed is not what was saved.
        UsageError: for a name that no repository can have.

    Example:
        >>> from pathlib import Path
        >>> from hf_gpt_scratch import push
        >>> push(Path("runs/spam"), "you/spam-filter", private=True)  # doctest: +SKIP
    """
    if get_token() is None:
        raise InputError(
            "A push needs a token of the Hub: run `hf auth login`, or put one into the environment's HF_TOKEN."
        )
    files = checked_files(folder, repo_id, trust_remote_code, **terms)
    with hub_errors(repo_id):
        there = prepare(repo_id, private, branch, is_adapter(folder))
        if "README.md" in there and isinstance(files["README.md"], bytes):
            files |= _card_over(_remote_file(repo_id, "README.md", branch), folder, repo_id, **terms)
        url, revision = upload(files, there, repo_id, branch, create_pr)
    print(f"Pushed to {url}.")
    print(load_back(folder, repo_id, revision, trust_remote_code))


def _card_over(there: bytes, folder: Path, repo_id: str, **terms: str | None) -> dict[str, bytes]:
    """The README.md to push over the one that is there: with its licence, or, where somebody wrote it, itself."""
    card = there.decode("utf-8", errors="replace")
    if not is_replaceable(card):
        print("The README.md there was written by hand, and stays.")
        return {"README.md": there}
    license = terms.get("license") or ModelCard(card, ignore_metadata_errors=True).data.license
    return {"README.md": card_of(folder, repo_id, **{**terms, "license": license})}


def push_trained(args, repo_id: str) -> None:
    """`push`, where a script's TrainingArguments ask for it; to be called by the main process alone."""
    if args.push_to_hub:
        push(Path(args.output_dir), repo_id, args.hub_private_repo, args.hub_revision)


def dry_run(folder: Path, repo_id: str, trust_remote_code: bool = False, **terms: str | None) -> None:
    """Checks, and lists what would be uploaded; raises `InputError` when a check fails."""
    files = checked_files(folder, repo_id, trust_remote_code, **terms)
    for name, content in files.items():
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        print(f"{size:>14,}  {name}")
    print(f"These {len(files)} files would be pushed to {repo_id}; nothing was.")


def checked_files(
    folder: Path, repo_id: str, trust_remote_code: bool = False, **terms: str | None
) -> dict[str, Path | bytes]:
    """What a repository gets, after the checks, whose table is printed; raises `InputError` when one fails."""
    from huggingface_hub.utils import validate_repo_id

    if repo_id.count("/") != 1:
        raise UsageError(f"{repo_id!r} is no name of a repository: it must be like you/your-model.")
    with hub_errors(repo_id):
        validate_repo_id(repo_id)
    findings = check(folder, trust_remote_code)
    files = contents(folder, repo_id, **terms) if all(finding.status != "failed" for finding in findings) else {}
    if files:  # the card quotes files that stay here, and so were not looked at
        findings.append(find("model card", lambda: _check_card(files, folder)))
    print(table(findings))
    require(findings, folder)
    return files


def contents(folder: Path, repo_id: str, **terms: str | None) -> dict[str, Path | bytes]:
    """What a repository gets, by name: the model's files, and the card, unless the folder's README.md is not ours."""
    files: dict[str, Path | bytes] = {path.relative_to(folder).as_posix(): path for path in uploadable(folder)}
    readme = files.get("README.md")
    if readme is None or is_replaceable(readme.read_text(encoding="utf-8", errors="replace")):
        files["README.md"] = card_of(folder, repo_id, **terms)
    return files


def card_of(folder: Path, repo_id: str, **terms: str | None) -> bytes:
    """The model card, as a file's content."""
    return str(make_card(folder, repo_id, **terms)).encode()


def _check_card(files: dict[str, Path | bytes], folder: Path) -> str:
    card = files["README.md"]
    require_no_leaks({"README.md": card}, folder)
    return "that of the folder" if isinstance(card, Path) else "made from what was measured"


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Makes an `InputError` of one sentence of whatever goes wrong between here and the Hub."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # What the HTTP library under huggingface_hub raises when there is no connection: httpx's or httpx2's.
    connection_error = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        yield
    except HFValidationError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"{repo_id!r} is no name of a repository ({reason}).") from None
    except HfHubHTTPError as error:
        raise InputError(_refusal(error, repo_id)) from None
    except ValueError as error:  # the Hub's opinion of a card's metadata
        if isinstance(error, InputError):
            raise
        raise InputError(f"The Hub refused the card of {repo_id}: {' '.join(str(error).split())}") from None
    except (ConnectionError, TimeoutError, LocalEntryNotFoundError, RuntimeError, connection_error) as error:
        # RuntimeError: an upload to LFS, after its retries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"The connection for {repo_id} broke off ({reason.rstrip('.')}). A push changes all or nothing there: push"
            " again."
        ) from None


def prepare(repo_id: str, private: bool | None, branch: str | None, is_adapter: bool | None) -> list[str]:
    """
    Makes the repository and the branch where they are not there; returns the names of the files in them.

    Args:
        is_adapter: whether an adapter will be pushed, or a whole model; `None` where it is not known.

    Raises:
        InputError: when the repository holds another kind of model, or is public and should be private.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise InputError(f"{repo_id} is there already, and public: make it private in its settings first.")
    if branch:
        api.create_branch(repo_id, branch=branch, exist_ok=True)
    there = api.list_repo_files(repo_id, revision=branch)
    if "config.json" in there:
        try:
            config = json.loads(_remote_file(repo_id, "config.json", branch))
        except (ValueError, RecursionError):
            config = None
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind != "gpt_scratch":
            raise InputError(
                f"{repo_id} holds a model of the type {kind!r}; choose another name, or delete what is there."
            )
    holds = {"a whole model": "config.json" in there, "an adapter": ADAPTER_CONFIG in there}
    wrong = {True: "a whole model", False: "an adapter"}.get(is_adapter)
    if wrong and holds[wrong]:
        raise InputError(
            f"{repo_id} holds {wrong}, and the two would be mixed up; choose another name, or delete what is there."
        )
    return there


def _remote_file(repo_id: str, name: str, branch: str | None) -> bytes:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo_id, name, revision=branch)).read_bytes()


def upload(
    files: dict[str, Path | bytes], there: Iterable[str], repo_id: str, branch: str | None, create_pr: bool
) -> tuple[str, str]:
    """
    One commit of the files, which takes away of those that are `there` what an earlier push left; returns its address
    and its hash.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    stale = [name for name in there if name not in files and any(fnmatch(name, one) for one in REPLACED)]
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    done = HfApi().create_commit(
        repo_id,
        [*added, *(CommitOperationDelete(name) for name in stale)],
        commit_message="Push of a model by hf-gpt-scratch",
        revision=branch,
        create_pr=create_pr,
    )
    return done.pr_url or done.commit_url, done.oid


def _refusal(error, repo_id: str) -> str:
    """The Hub's refusal in a sentence."""
    status = error.response.status_code if error.response is not None else None
    said = (getattr(error, "server_message", None) or str(error)).strip().splitlines()[0]
    if status == 401:
        return "The Hub does not know the token; set HF_TOKEN to one that may write, or run `hf auth login`."
    if status == 403:
        return f"The token may not write to {repo_id}; name a repository of your own, or take a token that may."
    return f"The Hub refused {repo_id} ({said})."


def load_back(folder: Path, repo_id: str, revision: str, trust_remote_code: bool = False) -> str:
    """
    Downloads the pushed revision anew, loads it in a clean process, and says how far its logits are from those
    recorded.

    Raises:
        InputError: when it does not load or answers otherwise.
    """
    from huggingface_hub import snapshot_download

    from ..model_folder.contents import base_of, resolve_source

    reference = reference_logits.read(folder)
    auto_class = reference["auto_class"] if reference else classes(folder)[1]
    base = resolve_source(base_of(folder)) if is_adapter(folder) else None
    with tempfile.TemporaryDirectory() as cache:
        pushed = Path(snapshot_download(repo_id, revision=revision, cache_dir=cache))
        answers, logits = load_elsewhere(pushed, [auto_class], reference, trust_remote_code, base)
    answer = answers[auto_class]
    try:
        tokenizer_loaded(folder, answers["AutoTokenizer"])
    except Failure as failure:
        reason = str(failure).rstrip(".")
        raise InputError(f"{repo_id} was pushed, but its tokenizer does not load from there: {reason}.") from None
    if "error" in answer:
        raise InputError(f"{repo_id} was pushed, but does not load from there: {answer['error'].rstrip('.')}.")
    if reference is None:
        return f"Loaded back from there by {auto_class}; no logits were recorded when it was saved."
    finding = compare_logits(logits, reference["logits"])
    if finding.status == "failed":
        raise InputError(f"{repo_id} was pushed, but its logits {finding.detail}.")
    return f"Loaded back from there by {auto_class}: its logits {finding.detail}."
