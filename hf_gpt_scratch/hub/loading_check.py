"""Whether a model's folder loads in a clean process with every Auto class, and answers as when it was saved."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import constants

from ..adapters import require_peft
from ..model_folder import clean_process, reference_logits
from ..model_folder.contents import ADAPTED, ADAPTER_CONFIG, AUTO_CLASSES, ModelFolder, is_hub_id
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError, one_line
from ..utils.provenance import sha256
from .findings import CheckFailed, Finding, compared, find

# Encoded in the clean process and here, to the same tokens
TEXTS = ("plain words", "Café naïve, 1234 €", "  two spaces\nand a line", "emoji 😀 and tabs\t.")


@dataclass(frozen=True)
class Loading:
    """
    How a folder is loaded elsewhere.

    Attributes:
        findings: what is known before.
        classes: the Auto classes to load it with; none where that cannot work.
        own: those of them that must find all their weights in the folder.
        base: the folder of the adapter's base model.
    """

    findings: list[Finding]
    classes: Sequence[str] = ()
    own: frozenset[str] = frozenset()
    base: Path | None = None


def check_loading(
    model: ModelFolder,
    trust_remote_code: bool = False,
    reference: Mapping | None = None,
    has_tokenizer: bool = True,
    repository: str | None = None,
) -> list[Finding]:
    """
    A finding for each Auto class that loads the folder where this package is not installed, and for its logits.

    Args:
        reference: the record of logits to compare with where the folder itself has none.
        has_tokenizer: whether the tokenizer loads here, so that loading it elsewhere can be tried.
        repository: the one on the Hub that the folder is a copy of.
    """
    loading = _loading_of_adapter(model) if model.is_adapter else _loading_of_model(model)
    if not loading.classes:
        return loading.findings
    try:
        reference, problem = reference_logits.read(model.path) or reference, None
    except InputError as error:
        reference, problem = None, str(error).rstrip(".")
    try:
        answers, logits = load_elsewhere(model.path, loading.classes, reference, trust_remote_code, loading.base)
    except InputError as error:  # of code that may not run, or a process that died
        return [*loading.findings, Finding("loads", "failed", one_line(error))]
    tokenizer = answers.pop("AutoTokenizer")
    findings = [
        *loading.findings,
        find("AutoTokenizer", lambda: tokenizer_loaded(model.path, tokenizer))
        if has_tokenizer
        else Finding("AutoTokenizer", "skipped", "not tried, as the tokenizer check failed"),
    ]
    findings += [
        find(name, lambda answer=answer, name=name: _loaded(answer, name in loading.own))
        for name, answer in answers.items()
    ]
    if problem:
        return [*findings, Finding("logits", "failed", problem)]
    if reference is None:
        record = f"`hf-gpt-scratch check {shlex.quote(str(model))} --record` records them, as a push does by itself"
        if repository:
            record = f"`hf-gpt-scratch push FOLDER {repository}` records them"
        return [*findings, Finding("logits", "skipped", f"none were recorded; {record}")]
    unchanged = find("weights as saved", lambda: _unchanged(model, reference["weights"], repository))
    return [*findings, unchanged, compare_logits(logits, reference["logits"])]


def load_elsewhere(
    folder: Path,
    classes: Sequence[str],
    reference: Mapping | None = None,
    trust_remote_code: bool = False,
    base: Path | None = None,
) -> tuple[dict[str, dict], list | None]:
    """
    What the clean process answers for AutoTokenizer and each of the other Auto classes, by name, and the logits of the
    class in `reference`, for the tokens and columns there.
    """
    jobs = [{"auto_class": "AutoTokenizer", "texts": TEXTS}, *({"auto_class": name} for name in classes)]
    for job in jobs:
        if reference is not None and job["auto_class"] == reference["auto_class"]:
            job["input_ids"] = reference["input_ids"]
    results, answers = clean_process.run_jobs(folder, jobs, trust_remote_code, base)
    logits = None
    for answer in answers.values():
        last = answer[:, -1] if answer.ndim == 3 else answer
        logits = last[:, reference["columns"]].tolist() if max(reference["columns"]) < last.shape[1] else last.tolist()
    return {job["auto_class"]: result for job, result in zip(jobs, results, strict=True)}, logits


def _unchanged(model: ModelFolder, recorded: Mapping, repository: str | None = None) -> str:
    """Whether the weights are those that the logits were recorded with."""
    shards = [name for name in model.weight_files if name.endswith(".safetensors")]
    if changed := sorted(name for name in shards if sha256(model.path / name) != recorded.get(name)):
        again = f"`hf-gpt-scratch check {'FOLDER' if repository else shlex.quote(str(model))} --record`"
        then = f" and `hf-gpt-scratch push FOLDER {repository}`" if repository else ""
        raise CheckFailed(
            f"{', '.join(changed)} has changed since the logits were recorded; if you meant to change it, record them"
            f" again with {again}{then}"
        )
    return "unchanged since the logits were recorded"


def _loading_of_model(model: ModelFolder) -> Loading:
    """With every class that auto_map in config.json names."""

    def fails(why: str) -> Loading:
        return Loading([Finding("loads", "failed", f"{why}: save the model again")])

    if not model.auto_map:
        return fails("config.json has no auto_map, so the Auto classes cannot load it")
    own = frozenset(AUTO_CLASSES[name] for name in model.architectures if name in AUTO_CLASSES)
    if not own:
        return fails(f"architectures in config.json is {', '.join(model.architectures) or 'empty'}")
    if lacking := {"AutoConfig", *own} - set(model.auto_map):
        return fails(f"auto_map in config.json lacks {', '.join(sorted(lacking))}")
    if unknown := set(model.auto_map) - clean_process.LOADERS:
        return fails(f"auto_map in config.json has {', '.join(sorted(unknown))}, which this package does not write")
    return Loading([], list(model.auto_map), own)


def _loading_of_adapter(model: ModelFolder) -> Loading:
    """With PEFT, over the base model, which must be one that others have."""
    try:
        base = model.base
    except InputError as error:
        return Loading([Finding("base model", "failed", str(error).rstrip("."))])
    is_repository = is_hub_id(base)
    findings = [Finding("base model", *("ok", base) if is_repository else ("failed", _push_the_base(base)))]
    if not is_repository and not os.path.isdir(base):
        return Loading(findings)

    def ends(status: str, detail: str) -> Loading:
        return Loading([*findings, Finding("loads", status, detail)])

    if (task := model.adapter.get("task_type")) not in ADAPTED:
        expected = " or ".join(ADAPTED)
        return ends("failed", f"{ADAPTER_CONFIG} has the task_type {task!r}: set it to {expected} in the LoraConfig")
    try:
        require_peft()
    except InputError as error:
        return ends("skipped", one_line(error))
    try:
        model.base_folder.require_native()  # downloaded if needed
    except InputError as error:
        if is_repository:
            advice = "push the base model there first, or give its repository with --base-model"
            return ends("skipped" if constants.HF_HUB_OFFLINE else "failed", f"{one_line(error)}; {advice}")
        return ends("failed", one_line(error))
    return Loading(findings, [model.auto_class], frozenset({model.auto_class}), model.base_folder.path)


def _push_the_base(base: str) -> str:
    """What to do with an adapter that was trained on a folder of this machine."""
    return (
        f"the adapter was trained on the folder {base}, which nobody else has: push that first"
        f" (hf-gpt-scratch push {base} OWNER/BASE), then repeat this command with --base-model OWNER/BASE"
    )


def _loaded(answer: dict, is_own: bool) -> str:
    """The detail for a class that was loaded elsewhere."""
    if "error" in answer:
        raise CheckFailed(answer["error"])
    if not answer["code"].startswith("transformers_modules"):
        raise CheckFailed(f"it loads the code of {answer['code']} instead of the folder's: save the model again")
    missing, other = answer.get("missing", []), answer.get("unexpected", []) + answer.get("mismatched", [])
    if is_own and (missing or other):
        raise CheckFailed(f"the weights do not fit: {', '.join((missing + other)[:5])}; save the model again")
    return f"loads, with a new {' and '.join(missing[:3])} to be trained" if missing else "loads"


def tokenizer_loaded(folder: Path, answer: dict) -> str:
    """The detail for the tokenizer that was loaded elsewhere; it must encode `TEXTS` to the same tokens as here."""
    if "error" in answer:
        raise CheckFailed(answer["error"])
    tokenizer = load_tokenizer(folder)
    for text, found in zip(TEXTS, answer["ids"], strict=True):
        if found != (expected := tokenizer(text)["input_ids"]):
            raise CheckFailed(f"it encodes {text!r} to {found}, and here to {expected}: save the tokenizer again")
    return "loads and gives the same tokens as here"


def compare_logits(found: list | None, expected: list) -> Finding:
    """Whether logits `(B, C)` are those recorded, up to rounding; its `value` is the difference."""
    if found is None:
        return Finding("logits", "failed", "the model does not load with the class that they were recorded with")
    logits, recorded = (torch.tensor(values, dtype=torch.float64) for values in (found, expected))
    if logits.shape != recorded.shape:
        return Finding(
            "logits", "failed", f"their shape is {list(logits.shape)}, and {list(recorded.shape)} was recorded"
        )
    difference = (logits - recorded).abs().max().item()
    is_close = difference <= reference_logits.TOLERANCE * max(1.0, recorded.abs().max().item())  # NaN is not
    detail = f"they {compared(difference)} those recorded when the model was saved"
    return Finding("logits", "ok" if is_close else "failed", detail, difference)
