"""A checked folder with its card, in one commit to the Hub, loaded back from there."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import ModelCard, get_token

from ..model_folder import reference_logits
from ..model_folder.contents import ADAPTER_CONFIG, OF_THE_MODEL, ModelFolder
from ..pretrained import reference_record
from ..utils.errors import InputError, UsageError, one_line
from ..utils.files import read_json
from .check import check_model, open_folder
from .files import require_no_secrets, upload_files
from .findings import CheckFailed, find, require, summary
from .loading_check import compare_logits, load_elsewhere, tokenizer_loaded
from .model_card import is_replaceable, make_card

# Files of an earlier push, deleted when the new one lacks them; the last is of transformers' own Trainer.
REPLACED = (*OF_THE_MODEL, "training_args.bin")


@dataclass(frozen=True)
class Pushed:
    """
    The outcome of a push.

    Attributes:
        url: of the commit, or of the pull request.
        revision: the commit's hash.
        auto_class: the class that it was loaded back with.
        difference: between the logits from there and those recorded; `None` where none could be recorded.
    """

    url: str
    revision: str
    auto_class: str
    difference: float | None


def push(
    folder: str | os.PathLike,
    repo_id: str,
    private: bool | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    trust_remote_code: bool = False,
    license: str | None = None,
    language: str | None = None,
    report: Callable[[str], None] | None = None,
    base_model: str | None = None,
) -> Pushed:
    """
    Checks a folder, uploads it with its card in one commit, and loads the pushed revision back.

    Args:
        branch: to push to, created if it does not exist; by default main.
        create_pr: propose it as a pull request instead.
        trust_remote_code: run the folder's code even where it is not this package's own.
        license: of the weights; by default that of the card in the repository.
        language: of the texts; by default that of the training data, where it is known.
        report: called with each message on the way, such as `print`: what the checks found, the commit's address.
        base_model: for an adapter that was trained on a folder, the Hub repository of that model, which the uploaded
            copy of adapter_config.json names.

    Raises:
        InputError: when a check fails, the Hub refuses, or what was pushed is not what was saved.
        UsageError: for a name that no repository can have, or a `base_model` of a whole model.

    Examples:
        >>> from hf_gpt_scratch import push
        >>> push("runs/spam", "you/spam", private=True).url  # doctest: +SKIP
        'https://huggingface.co/you/spam/commit/...'
    """
    if get_token() is None:
        raise InputError("A push needs a Hub token: run `hf auth login`, or set the environment variable HF_TOKEN.")
    model, terms = open_folder(folder, base_model), {"license": license, "language": language}
    files = checked_files(model, repo_id, trust_remote_code, report=report, **terms)
    say = report or (lambda text: None)
    with hub_errors(repo_id):
        there = prepare(repo_id, private, branch, model.is_adapter)
        if "README.md" in there and isinstance(files["README.md"], bytes):
            card = _remote_file(repo_id, "README.md", branch).read_bytes()
            if is_replaceable(text := card.decode("utf-8", errors="replace")):
                kept = license or ModelCard(text, ignore_metadata_errors=True).data.license
                card = card_of(model, repo_id, **{**terms, "license": kept})
            else:
                say("note: the README.md in the repository was written by hand and is kept.")
            files["README.md"] = card
        url, revision = upload(files, there, repo_id, branch, create_pr)
    say(f"Pushed to {url if create_pr else url.partition('/commit/')[0]} (commit {revision[:7]}).")
    auto_class, difference = load_back(model, repo_id, revision, _record_in(files), trust_remote_code)
    logits = "no logits were recorded to compare with"
    if difference is not None:
        how = f"differ by at most {difference:.1e} from" if difference else "are the same as"
        logits = f"its logits {how} those recorded before"
    say(f"Loaded back from there with {auto_class}: {logits}.")
    return Pushed(url, revision, auto_class, difference)


def push_trained(args, repo_id: str) -> None:
    """`push`, where a script's TrainingArguments ask for it; to be called by the main process only."""
    if args.push_to_hub:
        push(args.output_dir, repo_id, args.hub_private_repo, args.hub_revision, report=print)


def checked_files(
    folder: str | os.PathLike,
    repo_id: str,
    trust_remote_code: bool = False,
    report: Callable[[str], None] | None = None,
    base_model: str | None = None,
    **terms: str | None,
) -> dict[str, Path | bytes]:
    """
    The files of a push by name, after the checks.

    Args:
        report: called with what the checks found, and notes.
        terms: `license` and `language` of `make_card`.

    Raises:
        InputError: when a check fails.
        UsageError: for a name that no repository can have, or a `base_model` of a whole model.
    """
    from huggingface_hub.utils import validate_repo_id

    if repo_id.count("/") != 1:
        raise UsageError(f"{repo_id!r} is not the name of a repository; expected one such as you/your-model.")
    with hub_errors(repo_id):
        validate_repo_id(repo_id)
    model = open_folder(folder, base_model)
    recorded = _record_logits(model)
    findings = check_model(model, trust_remote_code, recorded)
    files = contents(model, repo_id, **terms) if all(finding.status != "failed" for finding in findings) else {}
    if files:  # the card quotes files that are not uploaded, and so were not checked
        findings.append(find("model card", lambda: _check_card(files, model.path)))
    if report:
        report(summary(findings, model.path))
    require(findings, model.path, are_shown=report is not None)
    if recorded:
        files[reference_logits.FILE] = (json.dumps(recorded, indent=2) + "\n").encode()
        if report:
            report(f"note: {model} has no {reference_logits.FILE}; its logits were recorded now, for the upload.")
    return files


def contents(model: ModelFolder, repo_id: str, **terms: str | None) -> dict[str, Path | bytes]:
    """The files of a push by name: the model's, and the card, unless the folder's README.md was written by hand."""
    files = upload_files(model)
    readme = files.get("README.md")
    if readme is None or is_replaceable(readme.read_text(encoding="utf-8", errors="replace")):
        files["README.md"] = card_of(model, repo_id, **terms)
    return files


def _record_logits(model: ModelFolder) -> dict | None:
    """The record of a model that was saved without one; `None` where it has one, or does not load."""
    if (model.path / reference_logits.FILE).exists():
        return None
    # An adapter's with the model that it was trained on, if that is here.
    for one in (ModelFolder.read(model.path), model) if model.is_adapter else (model,):
        try:
            return reference_record(one)
        except InputError:  # which the checks tell
            continue
    return None


def _record_in(files: Mapping[str, Path | bytes]) -> dict | None:
    content = files.get(reference_logits.FILE)
    return content and json.loads(content if isinstance(content, bytes) else content.read_bytes())


def card_of(model: ModelFolder, repo_id: str, **terms: str | None) -> bytes:
    """The model card, as a file's content."""
    return str(make_card(model, repo_id, **terms)).encode()


def _check_card(files: dict[str, Path | bytes], folder: Path) -> str:
    card = files["README.md"]
    require_no_secrets({"README.md": card}, folder)
    return "README.md of the folder" if isinstance(card, Path) else "generated from the folder's records"


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turns whatever goes wrong between here and the Hub into an `InputError` of one sentence."""
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
            f"The connection to the Hub failed during the push to {repo_id} ({reason.rstrip('.')}). A push changes all"
            " or nothing there: push again."
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
    if "config.json" in there:
        try:
            config = read_json(_remote_file(repo_id, "config.json", branch))
        except InputError:
            config = None
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind != "gpt_scratch":
            raise InputError(
                f"{repo_id} holds a model of type {kind!r}: choose another name, or delete the files there."
            )
    holds = {"a whole model": "config.json" in there, "an adapter": ADAPTER_CONFIG in there}
    wrong = {True: "a whole model", False: "an adapter"}.get(is_adapter)
    if wrong and holds[wrong]:
        raise InputError(
            f"{repo_id} holds {wrong}, and loaders would mix up the two: choose another name, or delete the files"
            " there."
        )
    return there


def _remote_file(repo_id: str, name: str, branch: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo_id, name, revision=branch))


def upload(
    files: dict[str, Path | bytes], there: Iterable[str], repo_id: str, branch: str | None, create_pr: bool
) -> tuple[str, str]:
    """
    One commit of the files, which also deletes those of an earlier push that are still `there`; returns its address
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


def load_back(
    model: ModelFolder, repo_id: str, revision: str, reference: Mapping | None, trust_remote_code: bool = False
) -> tuple[str, float | None]:
    """
    Downloads the pushed revision and loads it in a clean process.

    Args:
        reference: the record of the model's logits, if there is one.

    Returns:
        The Auto class that loaded it, and how far its logits are from those recorded, if any were.

    Raises:
        InputError: when it does not load, or its logits differ.
    """
    from huggingface_hub import snapshot_download

    auto_class = reference["auto_class"] if reference else model.auto_class
    base = model.base_folder.path if model.is_adapter else None
    with tempfile.TemporaryDirectory() as cache:
        pushed = Path(snapshot_download(repo_id, revision=revision, cache_dir=cache))
        answers, logits = load_elsewhere(pushed, [auto_class], reference, trust_remote_code, base)
    try:
        tokenizer_loaded(model.path, answers["AutoTokenizer"])
    except CheckFailed as failure:
        reason = one_line(failure)
        raise InputError(f"{repo_id} was pushed, but its tokenizer does not load from there: {reason}.") from None
    if error := answers[auto_class].get("error"):
        raise InputError(f"{repo_id} was pushed, but does not load from there: {error.rstrip('.')}.")
    if reference is None:
        return auto_class, None
    finding = compare_logits(logits, reference["logits"])
    if finding.status == "failed":
        raise InputError(f"{repo_id} was pushed, but its logits are wrong: {finding.detail}.")
    return auto_class, finding.value
