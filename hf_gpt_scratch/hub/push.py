"""A checked folder with its card, in one commit to the Hub, loaded back from there."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import get_token

from ..model_folder import reference_logits
from ..model_folder.contents import ModelFolder
from ..pretrained import reference_record
from ..utils.constants import NO_NAME, NO_TOKEN
from ..utils.errors import InputError, UsageError, naming, one_line
from ..utils.files import scratch_folder
from .check import check_model, open_folder
from .files import require_no_secrets, upload_files
from .findings import CheckFailed, compared, find, require, summary
from .handler import HANDLER, check_handler, handler_files, is_own, require_replaceable, require_servable
from .loading_check import compare_logits, load_elsewhere, tokenizer_loaded
from .model_card import is_replaceable, make_card, texts_shown
from .repository import hub_errors, keep_card, prepare, remote_file, upload
from .twin import BRANCH, files_of_twin, made_twin, push_twin, require_possible

OMIT = "Leave them out with --no-examples (in Python examples=False)."


@dataclass(frozen=True)
class Pushed:
    """
    The outcome of a push.

    Attributes:
        url: of the commit, or of the pull request.
        revision: the commit's hash.
        auto_class: the class that it was loaded back with.
        difference: between the logits from there and those recorded; `None` where none could be recorded.
        twin_revision: the hash of the twin's commit, where there is one.
    """

    url: str
    revision: str
    auto_class: str
    difference: float | None
    twin_revision: str | None = None


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
    with_twin: bool = False,
    examples: bool = True,
    with_handler: bool = False,
    with_onnx: bool = False,
) -> Pushed:
    """
    Checks a folder, uploads it with its card in one commit, and loads the pushed revision back. With its twin, two
    commits follow: of the twin, and of a card that names both before it.

    Args:
        branch: to push to, created if it does not exist; by default main.
        create_pr: propose it as a pull request instead.
        trust_remote_code: run the folder's code even where it is not this package's own.
        license: of the weights; by default that of the card in the repository.
        language: of the texts; by default that of the training data, where it is known.
        report: called with each message on the way, such as `print`: what the checks found, the commit's address.
        base_model: for an adapter that was trained on a folder, the Hub repository of that model, which the uploaded
            copy of adapter_config.json names.
        with_twin: also push the model as stock GPT-2, to the branch `gpt2`, for whoever may not run code from the Hub.
        examples: show texts of the test set in the card: one for each label, or instructions with their answers.
        with_handler: also push `handler.py`, which answers on Hugging Face Inference Endpoints.
        with_onnx: push the twin, and beside it its ONNX graphs, for transformers.js.

    Raises:
        InputError: when a check fails, stock GPT-2 cannot express the twin, the Hub refuses, or what was pushed is not
            what was saved.
        UsageError: for a name that no repository can have, a `base_model` of a whole model, the twin of an adapter, or
            a model that no handler can answer for.

    Examples:
        >>> from hf_gpt_scratch import push
        >>> push("runs/spam", "you/spam", private=True).url  # doctest: +SKIP
        'https://huggingface.co/you/spam/commit/...'
    """
    if get_token() is None:
        raise InputError(NO_TOKEN)
    model, terms = open_folder(folder, base_model), {"license": license, "language": language, "examples": examples}
    terms["with_handler"] = with_handler
    with_twin = with_twin or with_onnx
    if with_twin:
        require_possible(model, branch, create_pr)
    files = checked_files(model, repo_id, trust_remote_code, report=report, **terms)
    say = report or (lambda text: None)
    with made_twin(model, trust_remote_code, with_onnx) if with_twin else nullcontext() as twin:
        with hub_errors(repo_id):
            there = prepare(repo_id, private, branch, model.is_adapter)
            twin_there = None if branch or create_pr else files_of_twin(repo_id, is_pushed=with_twin)
            if with_handler:
                require_replaceable(repo_id, there, branch)
            elif HANDLER in there and is_own(remote_file(repo_id, HANDLER, branch)):
                say(f"note: the {HANDLER} of an earlier push stays there; --with-handler pushes it anew.")

            def make(kept: str | None) -> bytes:
                return card_of(model, repo_id, **{**terms, "license": kept})

            terms["license"] = keep_card(files, there, repo_id, branch, license, make, say)
            url, revision = upload(files, there, repo_id, branch, create_pr)
        say(f"Pushed to {url if create_pr else url.partition('/commit/')[0]} (commit {revision[:7]}).")
        auto_class, difference = load_back(model, repo_id, revision, _record_in(files), trust_remote_code)
        say(f"Loaded back from there with {auto_class}: {_compared(difference)}.")
        pushed = Pushed(url, revision, auto_class, difference)
        if twin:
            return replace(pushed, twin_revision=push_twin(twin, twin_there, revision, repo_id, files, terms, say))
    if twin_there is not None:
        say(f"note: the branch {BRANCH} holds the twin of an earlier model: --with-twin pushes it anew.")
    return pushed


def _compared(difference: float | None) -> str:
    """How logits from the Hub compare with those recorded before."""
    if difference is None:
        return "no logits were recorded to compare with"
    return f"its logits {compared(difference)} those recorded before"


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
    **terms: str | bool | None,
) -> dict[str, Path | bytes]:
    """
    The files of a push by name, after the checks.

    Args:
        report: called with what the checks found, and notes.
        terms: `license`, `language`, `examples` and `with_handler` of `make_card`.

    Raises:
        InputError: when a check fails.
        UsageError: as `push`.
    """
    from huggingface_hub.utils import validate_repo_id

    if repo_id.count("/") != 1:
        raise UsageError(NO_NAME.format(repo_id))
    with hub_errors(repo_id):
        validate_repo_id(repo_id)
    model = open_folder(folder, base_model)
    if terms.get("with_handler"):
        require_servable(model)
    recorded = _record_logits(model)
    findings = check_model(model, trust_remote_code, recorded)
    if terms.get("with_handler") and all(finding.status != "failed" for finding in findings):
        findings.append(find("endpoint handler", lambda: check_handler(model, recorded)))
    files = contents(model, repo_id, **terms) if all(finding.status != "failed" for finding in findings) else {}
    if files:  # the card quotes files that are not uploaded, and so were not checked
        findings.append(find("model card", lambda: _check_card(files, model.path)))
    if report:
        report(summary(findings, model.path))
    require(findings, model.path, are_shown=report is not None)
    if report and terms.get("examples", True) and isinstance(files["README.md"], bytes) and texts_shown(model):
        report(f"note: The model card shows texts of the test set: {len(texts_shown(model))}. {OMIT}")
    if recorded:
        files[reference_logits.FILE] = (json.dumps(recorded, indent=2) + "\n").encode()
        if report:
            report(f"note: {model} has no {reference_logits.FILE}; its logits were recorded now, for the upload.")
    return files


def contents(model: ModelFolder, repo_id: str, **terms: str | bool | None) -> dict[str, Path | bytes]:
    """The files of a push by name: the model's, and the card, unless the folder's README.md was written by hand."""
    files = {**(handler_files() if terms.get("with_handler") else {}), **upload_files(model)}
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


def card_of(model: ModelFolder, repo_id: str, **terms: str | bool | None) -> bytes:
    """The model card, as a file's content; `terms` are those of `make_card`."""
    return str(make_card(model, repo_id, **terms)).encode()


def _check_card(files: dict[str, Path | bytes], folder: Path) -> str:
    card = files["README.md"]
    require_no_secrets({"README.md": card}, folder)
    return "README.md of the folder" if isinstance(card, Path) else "generated from the folder's records"


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
    with scratch_folder() as cache:
        with naming(cache):
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
