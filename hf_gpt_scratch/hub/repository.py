"""A repository on the Hub: made ready, looked at, and changed in commits that hold all or nothing."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import ModelCard

from ..model_folder.contents import ADAPTER_CONFIG, OF_THE_MODEL
from ..utils.errors import InputError, UsageError, naming, one_line
from ..utils.files import read_json
from .model_card import is_replaceable

# Files of an earlier push, deleted when the new one lacks them; the last is of transformers' own Trainer.
REPLACED = (*OF_THE_MODEL, "training_args.bin")


@contextmanager
def hub_errors(repo_id: str, left: str = "A push changes all or nothing there") -> Iterator[None]:
    """Turns whatever goes wrong between here and the Hub into an `InputError` that says what was `left` there."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # What the HTTP library under huggingface_hub raises when there is no connection: httpx's or httpx2's.
    connection_error = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"{repo_id!r} is not the name of a repository ({one_line(error)}).") from None
    except HfHubHTTPError as error:
        raise InputError(_refusal(error, repo_id)) from None
    except ValueError as error:  # by the Hub's check of a card's metadata
        if isinstance(error, InputError):
            raise
        raise InputError(f"The Hub refused the model card of {repo_id}: {one_line(error)}.") from None
    except (ConnectionError, TimeoutError, LocalEntryNotFoundError, RuntimeError, connection_error) as error:
        # RuntimeError: an upload to LFS, after its retries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"The connection to the Hub failed during the push to {repo_id} ({reason.rstrip('.')}). {left}: push"
            " again."
        ) from None


def prepare(repo_id: str, private: bool | None, branch: str | None, is_adapter: bool | None) -> list[str]:
    """
    Creates the repository and the branch if they do not exist; returns the names of their files.

    Args:
        is_adapter: whether an adapter will be pushed, or a whole model; `None` if that is not known yet.

    Raises:
        InputError: when the repository holds another kind of model, or is public and should be private.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise InputError(f"{repo_id} exists and is public: make it private in its settings on the Hub first.")
    if branch:
        api.create_branch(repo_id, branch=branch, exist_ok=True)
    there = api.list_repo_files(repo_id, revision=branch)
    require_kind(repo_id, there, branch, "gpt_scratch")
    holds = {"a whole model": "config.json" in there, "an adapter": ADAPTER_CONFIG in there}
    wrong = {True: "a whole model", False: "an adapter"}.get(is_adapter)
    if wrong and holds[wrong]:
        raise InputError(
            f"{repo_id} holds {wrong}, and loaders would mix up the two: choose another name, or delete the files"
            " there."
        )
    return there


def require_kind(repo_id: str, there: Iterable[str], branch: str | None, wanted: str) -> None:
    """Raises `InputError` when there is a model of another type than `wanted`."""
    if "config.json" not in there:
        return
    try:
        config = read_json(remote_file(repo_id, "config.json", branch))
    except InputError:
        config = None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != wanted:
        where = f"The branch {branch} of {repo_id}" if branch else repo_id
        raise InputError(f"{where} holds a model of type {kind!r}: choose another name, or delete the files there.")


def remote_file(repo_id: str, name: str, branch: str | None) -> Path:
    from huggingface_hub import constants, hf_hub_download

    with naming(constants.HF_HUB_CACHE):
        return Path(hf_hub_download(repo_id, name, revision=branch))


def upload(
    files: dict[str, Path | bytes],
    there: Iterable[str],
    repo_id: str,
    branch: str | None,
    create_pr: bool,
    replaced: Iterable[str] = REPLACED,
    repo_type: str = "model",
) -> tuple[str, str]:
    """
    One commit of the files, which also deletes those that are still `there` and match one of the patterns `replaced`;
    returns its address and its hash.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    kept = {*files, ".gitattributes"}  # the latter says which files are in LFS
    stale = [name for name in there if name not in kept and any(fnmatch(name, one) for one in replaced)]
    added = [CommitOperationAdd(name, content) for name, content in files.items()]
    done = HfApi().create_commit(
        repo_id,
        [*added, *(CommitOperationDelete(name) for name in stale)],
        commit_message=f"Push of a {repo_type} by hf-gpt-scratch",
        repo_type=repo_type,
        revision=branch,
        create_pr=create_pr,
    )
    return done.pr_url or done.commit_url, done.oid


def _refusal(error, repo_id: str) -> str:
    """The Hub's refusal, as a sentence."""
    status = error.response.status_code if error.response is not None else None
    said = (getattr(error, "server_message", None) or str(error)).strip().splitlines()[0]
    if status == 401:
        return "The Hub does not accept the token: set HF_TOKEN to one with write access, or run `hf auth login`."
    if status == 403:
        return (
            f"The token has no write access to {repo_id}: name a repository of your own, or use a token that has it."
        )
    return f"The Hub refused {repo_id} ({said})."


def keep_card(
    files: dict[str, Path | bytes],
    there: Iterable[str],
    repo_id: str,
    branch: str | None,
    license: str | None,
    make: Callable[[str | None], bytes],
    say: Callable[[str], None],
) -> str | None:
    """
    Leaves README.md out of the files of a push where the one that is there was written by hand; else makes it anew
    with the licence there, unless another is given. Returns the licence.

    Args:
        make: the card, from the licence.
        say: called with a note.
    """
    if "README.md" not in there or not isinstance(files["README.md"], bytes):
        return license
    text = remote_file(repo_id, "README.md", branch).read_bytes().decode("utf-8", errors="replace")
    if is_replaceable(text):
        license = license or ModelCard(text, ignore_metadata_errors=True).data.license
        files["README.md"] = make(license)
    else:
        where = f"the branch {branch} of " if branch else ""
        say(f"note: the README.md in {where}the repository was written by hand and is kept.")
        del files["README.md"]
    return license
