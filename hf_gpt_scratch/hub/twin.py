"""
A model's twin: the same weights as stock GPT-2, on the branch `gpt2` of the model's repository, for whoever may not
run code from the Hub. What proves it is loaded in a clean process by transformers alone, without `trust_remote_code`.
With `onnx/`, as transformers.js lays it out, the branch is for JavaScript too.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RevisionNotFoundError

from ..conversion.export import export
from ..conversion.onnx import export_onnx
from ..conversion.tokenizers import inline_chat_template
from ..model_folder import clean_process, reference_logits
from ..model_folder.contents import ModelFolder
from ..model_folder.onnx_files import FILES
from ..utils.errors import InputError, UsageError, naming, one_line
from ..utils.files import scratch_folder
from ..utils.provenance import sha256
from .card_facts import Forms
from .files import require_no_secrets, upload_files
from .findings import CheckFailed, compared
from .loading_check import TEXTS, tokenizer_loaded
from .model_card import make_card
from .repository import REPLACED, hub_errors, keep_card, require_kind, upload

BRANCH = "gpt2"


@dataclass(frozen=True)
class Twin:
    """
    A model and its twin.

    Attributes:
        folder: the twin's.
        logits: the model's, by the names that `run_jobs` gives them.
        difference: the greatest between the logits of the two, on the same tokens.
        graphs: by the precision of each ONNX graph, the greatest difference between its logits and the model's.
    """

    model: ModelFolder
    folder: ModelFolder
    logits: Mapping[str, torch.Tensor]
    difference: float
    graphs: Mapping[str, float] = field(default_factory=dict)

    def forms(self, revision: str, twin_revision: str | None = None) -> Forms:
        """What the cards say of the two, in the commits of these hashes."""
        return Forms(
            revision=revision,
            twin_revision=twin_revision,
            code={name: sha256(self.model.path / name) for name in sorted(self.model.code_files)},
            difference=self.difference,
            has_moved_bias=self.model.config.classifier_bias and "SequenceClassification" in self.model.architecture,
            graphs=self.graphs,
        )

    def files(self) -> dict[str, Path | bytes]:
        """What the branch gets, but for its card."""
        files = upload_files(self.folder) | {FILES[dtype]: self.folder.path / FILES[dtype] for dtype in self.graphs}
        if (license := self.model.path / "LICENSE").is_file():
            files["LICENSE"] = license
        return files


def require_possible(model: ModelFolder, branch: str | None = None, create_pr: bool = False) -> None:
    """Raises `UsageError` where a push cannot have a twin."""
    if model.is_adapter:
        raise UsageError(
            f"--with-twin is for whole models, and {model} holds an adapter: merge it into its base model first, with"
            " `train instruct --merge_adapter true`, or push it without its twin."
        )
    if branch or create_pr:
        option = "--revision" if branch else "--create-pr"
        raise UsageError(f"--with-twin pushes to main and to the branch {BRANCH}: omit {option}.")


@contextmanager
def made_twin(model: ModelFolder, trust_remote_code: bool = False, with_onnx: bool = False) -> Iterator[Twin]:
    """
    Yields the twin of a model, in a temporary folder: its weights, read back, are the model's to the bit
    (`conversion.export`), and its logits in a clean process are the model's.

    Args:
        with_onnx: also in the ONNX format, in both precisions: transformers.js takes fp32 in Node, int8 in a browser.

    Raises:
        InputError: when stock GPT-2 or ONNX cannot express the model, or the logits differ.
    """
    with scratch_folder() as scratch:
        try:
            folder = ModelFolder.read(export(model.path, Path(scratch, model.path.resolve().name)))
        except InputError as error:
            raise InputError(f"{model} has no twin as stock GPT-2: {error}") from None
        require_no_secrets(upload_files(folder), folder.path)
        _, logits = clean_process.run_jobs(model.path, _jobs(model), trust_remote_code)
        graphs = {dtype: _add_graph(model, folder.path, dtype) for dtype in FILES if with_onnx}
        if graphs:
            inline_chat_template(folder.path)
        yield Twin(model, folder, logits, difference_of(model, folder.path, logits), graphs)


def _add_graph(model: ModelFolder, twin: Path, dtype: str) -> float:
    """Adds the model as an ONNX graph to its twin; returns how far its logits are from the model's."""
    with scratch_folder(twin.parent) as scratch:
        done = export_onnx(model.path, Path(scratch, "onnx"), dtype)
        if [*done.graph.parent.iterdir()] != [done.graph]:  # the weights are in a second one
            raise InputError(f"{model} is too large for one ONNX file: push it --with-twin, without --with-onnx.")
        (twin / FILES[dtype]).parent.mkdir(exist_ok=True)
        done.graph.replace(twin / FILES[dtype])
    return done.max_logit_difference


def difference_of(model: ModelFolder, twin: Path, expected: Mapping[str, torch.Tensor]) -> float:
    """
    The greatest difference between the logits of a model, those `expected`, and of its twin, which is loaded without
    `trust_remote_code`, with its tokenizer.

    Raises:
        InputError: when it does not load, or they differ by more than rounding makes.
    """
    jobs = [*_jobs(model), {"auto_class": "AutoTokenizer", "texts": TEXTS}]
    results, found = clean_process.run_jobs(twin, [{**job, "trust_remote_code": False} for job in jobs])
    if error := next((result["error"] for result in results if "error" in result), None):
        raise InputError(f"The twin of {model} does not load as stock GPT-2: {error.rstrip('.')}.")
    try:
        tokenizer_loaded(model.path, results[-1])
    except CheckFailed as failure:
        raise InputError(f"The tokenizer of the twin of {model} is another one: {one_line(failure)}.") from None
    if expected.keys() != found.keys():
        raise InputError(f"{model} does not load in a clean process; `hf-gpt-scratch check {model}` says why.")
    difference = max((found[name] - one).abs().max().item() for name, one in expected.items())
    largest = max(one.abs().max().item() for one in expected.values())
    if not difference <= reference_logits.TOLERANCE * max(1.0, largest):  # NaN is not
        raise InputError(f"The logits of the twin of {model} differ from the model's by {difference}.")
    return difference


def _jobs(model: ModelFolder) -> list[dict]:
    """Two batches of one row, without padding tokens, at which stock GPT-2 would end a text to classify."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (2, min(reference_logits.TOKENS, config.n_positions)), generator=generator)
    if config.pad_token_id is not None:
        ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
    return [{"auto_class": model.auto_class, "input_ids": [row]} for row in ids.tolist()]


def files_of_twin(repo_id: str, is_pushed: bool) -> list[str] | None:
    """
    The names of the files on the twin's branch, `None` where there is no such branch, or one that is still the copy of
    main that it began as, since an upload broke off.

    Raises:
        InputError: when a twin is to be pushed, and the branch holds something else.
    """
    try:
        there = HfApi().list_repo_files(repo_id, revision=BRANCH)
    except RevisionNotFoundError:
        return None
    head = HfApi().model_info(repo_id, revision=BRANCH).sha
    if head in {commit.commit_id for commit in HfApi().list_repo_commits(repo_id)}:
        return None
    try:
        require_kind(repo_id, there, BRANCH, "gpt2")
    except InputError:
        if is_pushed:
            raise
        return None  # a branch of this name for something else
    return there


def push_twin(
    twin: Twin, there: list[str] | None, revision: str, repo_id: str, files: Mapping, terms: dict, say: Callable
) -> str:
    """
    Uploads the twin to its branch in one commit, loads it back without code to trust, and then names both in the card
    on main, in a commit of that card alone: only then their hashes are known. Returns the hash of the twin's commit.

    Args:
        there: what `files_of_twin` found.
        revision: the commit on main that holds the model.
        files: those of that commit, with README.md where this package wrote it.
        terms: `license`, `language` and more of `make_card`.
        say: called with each message.
    """

    def card(kept: str | None, twin_revision: str | None = None) -> bytes:
        forms = twin.forms(revision, twin_revision)
        return str(make_card(twin.model, repo_id, **{**terms, "license": kept}, forms=forms)).encode()

    with hub_errors(repo_id, f"{repo_id} has the new model on main, but not all of its twin"):
        mine, replaced = {**twin.files(), "README.md": card(terms["license"])}, REPLACED
        if there is None:
            HfApi().create_branch(repo_id, branch=BRANCH, revision=revision, exist_ok=True)
            there, replaced = HfApi().list_repo_files(repo_id, revision=BRANCH), ("*",)  # a copy of main
        else:
            keep_card(mine, there, repo_id, BRANCH, terms["license"], card, say)
        _, twin_revision = upload(mine, there, repo_id, BRANCH, False, replaced)
        say(f"Pushed its twin to the branch {BRANCH} (commit {twin_revision[:7]}).")
        with scratch_folder() as cache, naming(cache):
            downloaded = snapshot_download(repo_id, revision=twin_revision, cache_dir=cache)
            difference = difference_of(twin.model, Path(downloaded), twin.logits)
            for name in (FILES[dtype] for dtype in twin.graphs):
                if sha256(Path(downloaded, name)) != sha256(twin.folder.path / name):
                    raise InputError(f"{repo_id} was pushed, but {name} on the branch {BRANCH} is another one.")
        say(
            "Loaded back from there as stock GPT-2, without trust_remote_code: its logits"
            f" {compared(difference)} the model's."
        )
        if isinstance(files.get("README.md"), bytes):
            upload({"README.md": card(terms["license"], twin_revision)}, (), repo_id, None, False)
        else:
            say(f"note: name the branch {BRANCH} in your README.md, and {revision} as the revision to pin.")
    return twin_revision
