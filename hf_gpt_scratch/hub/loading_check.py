"""Whether a model's folder loads in a clean process, by every Auto class, and answers as it did when it was saved."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..adapters import require_peft
from ..model_folder import clean_process, reference_logits
from ..model_folder.contents import ADAPTED, ADAPTER_CONFIG, AUTO_CLASSES, ModelFolder
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError, one_line
from ..utils.provenance import sha256
from .findings import CheckFailed, Finding, find

# Read by the tokenizer in the clean process and here, which must make the same tokens of them
TEXTS = ("plain words", "Café naïve, 1234 €", "  two spaces\nand a line", "emoji 😀 and tabs\t.")


@dataclass(frozen=True)
class Loading:
    """
    How a folder is loaded elsewhere.

    Attributes:
        findings: what is known before.
        classes: the Auto classes to load it by; none where that cannot work.
        own: of them those that must find all their weights in the folder.
        base: the folder of the adapter's base model.
    """

    findings: list[Finding]
    classes: Sequence[str] = ()
    own: frozenset[str] = frozenset()
    base: Path | None = None


def check_loading(model: ModelFolder, trust_remote_code: bool = False) -> list[Finding]:
    """A finding for each Auto class that loads the folder where this package is not installed, and for its logits."""
    loading = _loading_of_adapter(model) if model.is_adapter else _loading_of_model(model)
    if not loading.classes:
        return loading.findings
    try:
        reference, problem = reference_logits.read(model.path), None
    except InputError as error:
        reference, problem = None, str(error)
    try:
        answers, logits = load_elsewhere(model.path, loading.classes, reference, trust_remote_code, loading.base)
    except InputError as error:  # of code that may not run, or a process that died
        return [*loading.findings, Finding("loads", "failed", one_line(error))]
    findings = [
        *loading.findings,
        find("AutoTokenizer", lambda: tokenizer_loaded(model.path, answers.pop("AutoTokenizer"))),
    ]
    findings += [
        find(name, lambda answer=answer, name=name: _loaded(answer, name in loading.own))
        for name, answer in answers.items()
    ]
    if problem:
        return [*findings, Finding("logits", "failed", problem)]
    if reference is None:
        detail = f"not recorded when it was saved; `hf-gpt-scratch check {model} --record` does so now"
        return [*findings, Finding("logits", "skipped", detail)]
    unchanged = find("weights as saved", lambda: _unchanged(model.path, reference["weights"]))
    return [*findings, unchanged, compare_logits(logits, reference["logits"])]


def load_elsewhere(
    folder: Path,
    classes: Sequence[str],
    reference: dict | None = None,
    trust_remote_code: bool = False,
    base: Path | None = None,
) -> tuple[dict[str, dict], list | None]:
    """
    What the clean process answers of AutoTokenizer and of each of the other Auto classes, by name, and the logits that
    the class of `reference` gives, as they were recorded.
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


def _unchanged(folder: Path, recorded: dict) -> str:
    """Whether the weights are to the bit those that the answers were recorded with."""
    found = {path.name: sha256(path) for path in folder.glob("*.safetensors")}
    if changed := sorted(name for name in found | recorded if found.get(name) != recorded.get(name)):
        raise CheckFailed(
            f"{', '.join(changed)}: other than when the answers were recorded; if that is meant, record them anew by"
            f" `hf-gpt-scratch check {folder} --record`"
        )
    return "to the bit"


def _loading_of_model(model: ModelFolder) -> Loading:
    """By every class that config.json's auto_map names."""

    def fails(why: str) -> Loading:
        return Loading([Finding("loads", "failed", f"{why}; save the model again")])

    if not model.auto_map:
        return fails("config.json has no auto_map, so it loads nowhere")
    own = frozenset(AUTO_CLASSES[name] for name in model.architectures if name in AUTO_CLASSES)
    if not own:
        return fails(f"it holds {', '.join(model.architectures) or 'a model that names no class'} in config.json")
    if lacking := {"AutoConfig", *own} - set(model.auto_map):
        return fails(f"auto_map lacks {', '.join(sorted(lacking))} in config.json")
    if unknown := set(model.auto_map) - clean_process.LOADERS:
        return fails(f"auto_map names {', '.join(sorted(unknown))}, which this package's models do not have")
    return Loading([], list(model.auto_map), own)


def _loading_of_adapter(model: ModelFolder) -> Loading:
    """By PEFT, over the base model, which must be one that others have."""
    try:
        base = model.base
    except InputError as error:
        return Loading([Finding("base model", "failed", str(error))])
    is_here = os.path.isabs(base) or Path(base).is_dir()
    detail = f"its base model is the folder {base}, which nobody else has; push that and name its repository"
    findings = [Finding("base model", "failed", detail) if is_here else Finding("base model", "ok", base)]

    def ends(status: str, detail: str) -> Loading:
        return Loading([*findings, Finding("loads", status, detail)])

    if (task := model.adapter.get("task_type")) not in ADAPTED:
        return ends("failed", f"{ADAPTER_CONFIG} has the task_type {task!r}; expected {' or '.join(ADAPTED)}")
    try:
        require_peft()
    except InputError as error:
        return ends("skipped", one_line(error))
    try:
        model.base_folder.require_native()  # downloaded, where it was not before
    except InputError as error:
        return ends("failed" if is_here else "skipped", one_line(error))
    return Loading(findings, [model.auto_class], frozenset({model.auto_class}), model.base_folder.path)


def _loaded(answer: dict, is_own: bool) -> str:
    """What to say of a class that was loaded elsewhere."""
    if "error" in answer:
        raise CheckFailed(answer["error"])
    if not answer["code"].startswith("transformers_modules"):
        raise CheckFailed(f"loads code of {answer['code']} in place of the folder's")
    missing, other = answer.get("missing", []), answer.get("unexpected", []) + answer.get("mismatched", [])
    if is_own and (missing or other):
        raise CheckFailed(f"the weights do not fit: {', '.join((missing + other)[:5])}")
    return f"loads; {', '.join(missing[:3])} would be new" if missing else "loads"


def tokenizer_loaded(folder: Path, answer: dict) -> str:
    """What to say of the tokenizer that was loaded elsewhere: it must make the same tokens of `TEXTS` as here."""
    if "error" in answer:
        raise CheckFailed(answer["error"])
    tokenizer = load_tokenizer(folder)
    for text, found in zip(TEXTS, answer["ids"], strict=True):
        if found != (expected := tokenizer(text)["input_ids"]):
            raise CheckFailed(f"it makes {found} of {text!r}, and here {expected}")
    return "loads; the same tokens as here"


def compare_logits(found: list | None, expected: list) -> Finding:
    """Whether logits `(B, C)` are those recorded, but for rounding; its `value` is the difference."""
    if found is None:
        return Finding("logits", "failed", "the class that they were recorded with does not load")
    logits, recorded = (torch.tensor(values, dtype=torch.float64) for values in (found, expected))
    if logits.shape != recorded.shape:
        return Finding("logits", "failed", f"{list(logits.shape)} of them, {list(recorded.shape)} were recorded")
    difference = (logits - recorded).abs().max().item()
    is_close = difference <= reference_logits.TOLERANCE * max(1.0, recorded.abs().max().item())  # NaN is not
    detail = f"differ by {difference:.1e} from those recorded at saving"
    return Finding("logits", "ok" if is_close else "failed", detail, difference)
