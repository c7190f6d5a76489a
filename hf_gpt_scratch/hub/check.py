"""`hf-gpt-scratch check`: whether a model's folder loads for anyone, anywhere, and holds nothing that should stay."""

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..model_folder import clean_process, reference_logits
from ..model_folder.code import require_own_code
from ..model_folder.contents import ADAPTED, ADAPTER_CONFIG, is_adapter
from ..pretrained import record_reference_logits
from ..utils.errors import InputError
from ..utils.provenance import sha256
from .files import check_files, check_texts
from .findings import Failure, Finding, find, require, table

OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".npz"}
# Read by the tokenizer in the clean process and here, which must make the same tokens of them
TEXTS = ("plain words", "Café naïve, 1234 €", "  two spaces\nand a line", "emoji 😀 and tabs\t.")
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def check(folder: Path, trust_remote_code: bool = False) -> list[Finding]:
    """
    All findings about a folder of a model or an adapter. It is loaded in a clean process.

    Args:
        trust_remote_code: run the folder's code even where it is not this package's own.

    Raises:
        InputError: when it is neither.

    Example:
        >>> from pathlib import Path
        >>> from hf_gpt_scratch import check
        >>> [finding.status for finding in check(Path("runs/spam"))]  # doctest: +SKIP
    """
    if not any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        raise InputError(f"{folder} is no folder of a model or an adapter: it has no config.json or {ADAPTER_CONFIG}.")
    settings = {} if is_adapter(folder) else _read_settings(folder)
    architectures = settings.get("architectures") or ()
    findings = [
        find("weights", lambda: check_weights(folder)),
        find("files", lambda: check_files(folder)),
        find("secrets and paths", lambda: check_texts(folder)),
        find("tokenizer", lambda: check_tokenizer(folder, settings)),
        find("code", lambda: check_code(folder, trust_remote_code)),
    ]
    if any("Classification" in name for name in architectures):
        findings.append(find("label names", lambda: check_labels(settings)))
    if "GPTScratchForCausalLM" in architectures:
        findings.append(find("generation config", lambda: check_generation_config(folder, settings)))
    for needed in ("weights", "code"):
        if any(finding.name == needed and finding.status == "failed" for finding in findings):
            return [*findings, Finding("loads", "skipped", f"it is tried when the {needed} check passes")]
    return findings + check_loading(folder, settings, trust_remote_code)


def _read_settings(folder: Path) -> dict:
    """What config.json holds, with the defaults of what the checks look at."""
    from ..configuration_gpt_scratch import GPTScratchConfig
    from ..model_folder.contents import read_config

    settings = read_config(folder, GPTScratchConfig.model_type)
    try:
        config = GPTScratchConfig(**settings)
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / 'config.json'} cannot be of a model ({reason.rstrip('.')}).") from None
    return {name: getattr(config, name) for name in ("vocab_size", *SPECIAL)} | settings


def check_code(folder: Path, trust_remote_code: bool = False) -> str:
    """Loading the folder runs no code but this package's own, or what the user trusts."""
    trusted = require_own_code(folder, trust_remote_code)
    return f"trusted by you: {', '.join(trusted)}" if trusted else "this package's own, byte for byte"


def check_weights(folder: Path) -> str:
    """Safetensors alone, whole, of finite numbers."""
    import torch
    from safetensors import SafetensorError, safe_open

    other = sorted(path.name for path in folder.iterdir() if path.suffix in OTHER_WEIGHTS)
    if other:
        raise Failure(
            f"{', '.join(other)}: weights belong in safetensors, which run no code; save the model again by"
            " save_pretrained, which writes those, and move these away"
        )
    found, expected = {path.name for path in folder.glob("*.safetensors")}, _weight_files(folder)
    if not found:
        raise Failure("there is no *.safetensors; save the model again")
    if missing := {name for name in expected if not (folder / name).is_file()}:
        raise Failure(f"{', '.join(sorted(missing))} is missing; save the model again")
    if stray := {path.name for path in folder.glob("*.safetensors*")} - expected:
        raise Failure(f"{', '.join(sorted(stray))} is no part of the model; move it away")
    count = 0
    for name in sorted(found):
        try:
            with safe_open(folder / name, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (no mapping)
                    tensor = file.get_tensor(key)
                    count += tensor.numel()
                    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                        raise Failure(f"{key} in {name} holds NaN or infinity: the training went wrong")
        except (SafetensorError, OSError) as error:
            raise Failure(f"{name} cannot be read ({error}); save the model again") from None
    return f"{count:,} numbers in {len(found)} file{'s' if len(found) > 1 else ''} of safetensors"


def _weight_files(folder: Path) -> set[str]:
    """The names of the files that `from_pretrained` would read."""
    stem = "adapter_model" if is_adapter(folder) else "model"
    index = folder / f"{stem}.safetensors.index.json"
    if (folder / f"{stem}.safetensors").is_file() or not index.is_file():
        return {f"{stem}.safetensors"}
    try:
        return {index.name, *json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Failure(f"{index.name} is damaged; save the model again") from None


def check_tokenizer(folder: Path, settings: dict) -> str:
    """It loads, gives back what it read, and has the model's vocabulary and special tokens."""
    from ..tokenizer import load_tokenizer

    try:
        tokenizer = load_tokenizer(str(folder))
    except (InputError, OSError, ValueError) as error:
        raise Failure(f"{str(error).rstrip('.')}; save it with tokenizer.save_pretrained") from None
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if back != text:
            raise Failure(f"it makes {back!r} of {text!r}")
    if not settings:
        return f"{len(tokenizer):,} tokens, texts come back whole; not compared with the base model's vocabulary"
    if (largest := max(tokenizer.get_vocab().values())) >= settings["vocab_size"]:
        raise Failure(f"it has token {largest}, and the model {settings['vocab_size']} of them")
    for key in SPECIAL:
        wanted, held = _ids(settings[key]), getattr(tokenizer, key)
        is_needed = key == "eos_token_id"  # without it the model does not know where a text ends
        if held not in wanted if wanted and held is not None else is_needed and (wanted or held is not None):
            raise Failure(f"its {key} is {held}, and that of config.json {settings[key]}")
    return f"{len(tokenizer):,} tokens, texts come back whole"


def _ids(value: int | list[int] | None) -> set[int]:
    return set() if value is None else set(value) if isinstance(value, list) else {value}


def check_labels(settings: dict) -> str:
    """Labels have names, and both tables agree."""
    names, numbers = settings.get("id2label") or {}, settings.get("label2id") or {}
    try:
        found = {int(number): name for number, name in names.items()}
        wanted = {int(number): name for name, number in numbers.items()}
        has_default = any(re.fullmatch(r"LABEL_\d+", name) for name in found.values())
    except (ValueError, TypeError, AttributeError):
        raise Failure("id2label and label2id in config.json must be tables of labels; save the model again") from None
    if not names or has_default:
        raise Failure("the labels have no names; set id2label and label2id in config.json")
    if found != wanted:
        raise Failure("id2label and label2id in config.json contradict each other")
    return ", ".join(found.values())


def check_generation_config(folder: Path, settings: dict) -> str:
    """It is there, ends a text where the model does, and can be saved again."""
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise Failure(f"it cannot be read ({str(error).splitlines()[0]}); save the model again") from None
    for key in SPECIAL:
        wanted, held = settings[key], getattr(generation, key)
        if wanted is not None and _ids(held) != _ids(wanted):
            raise Failure(f"its {key} is {held}, and that of config.json {wanted}; make them the same")
    try:
        generation.validate(strict=True)  # as when it is saved again, after a change
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise Failure(f"it contradicts itself, so that the model cannot be saved again ({reason})") from None
    if generation.eos_token_id is None:
        return "no end token, so that texts end at max_new_tokens"
    return f"ends at token {generation.eos_token_id}"


def check_loading(folder: Path, settings: dict, trust_remote_code: bool = False) -> list[Finding]:
    """A finding for each Auto class that loads the folder where this package is not installed, and for its logits."""
    try:
        reference, problem = reference_logits.read(folder), None
    except InputError as error:
        reference, problem = None, str(error)
    base = None
    if settings:
        findings, own, classes = _model_classes(settings)
    else:
        findings, own, classes, base = _adapter_classes(folder)
    if not classes:
        return findings
    answers, logits = load_elsewhere(folder, classes, reference, trust_remote_code, base)
    findings.append(find("AutoTokenizer", lambda: tokenizer_loaded(folder, answers.pop("AutoTokenizer"))))
    findings += [
        find(name, lambda answer=answer, name=name: _loaded(answer, name in own)) for name, answer in answers.items()
    ]
    if problem:
        return [*findings, Finding("logits", "failed", problem)]
    if reference is not None:
        findings.append(find("weights as saved", lambda: _unchanged(folder, reference["weights"])))
    if reference is None:
        detail = f"not recorded when it was saved; `hf-gpt-scratch check {folder} --record` does so now"
        return [*findings, Finding("logits", "skipped", detail)]
    return [*findings, compare_logits(logits, reference["logits"])]


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
        raise Failure(
            f"{', '.join(changed)}: other than when the answers were recorded; if that is meant, record them anew by"
            f" `hf-gpt-scratch check {folder} --record`"
        )
    return "to the bit"


def _model_classes(settings: dict) -> tuple[list[Finding], set[str], list[str]]:
    """Findings, the Auto classes that must find all their weights in the folder, and all to load it by."""
    from ..model_folder.contents import AUTO_CLASSES

    auto_map = settings.get("auto_map")
    if not (isinstance(auto_map, dict) and auto_map):
        detail = "config.json has no auto_map, so it loads nowhere; save the model again"
        return [Finding("loads", "failed", detail)], set(), []
    architectures = settings.get("architectures") or ["a model that names no class"]
    own = {AUTO_CLASSES[name] for name in architectures if name in AUTO_CLASSES}
    lacking = {"AutoConfig", *own} - set(auto_map)
    if lacking or not own:
        lacks = f"auto_map lacks {', '.join(sorted(lacking))}" if own else f"it holds {', '.join(architectures)}"
        return [Finding("loads", "failed", f"{lacks} in config.json; save the model again")], own, list(auto_map)
    return [], own, list(auto_map)


def _adapter_classes(folder: Path) -> tuple[list[Finding], set[str], list[str], Path | None]:
    """The same for an adapter, whose base model is one that others have, or else a failure; and the base's folder."""
    from importlib.util import find_spec

    from ..configuration_gpt_scratch import GPTScratchConfig
    from ..model_folder.contents import base_of, read_config, resolve_source

    try:
        base = base_of(folder)
        task = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("task_type")
    except InputError as error:
        return [Finding("base model", "failed", str(error))], set(), [], None
    is_here = os.path.isabs(base) or Path(base).is_dir()
    detail = f"its base model is the folder {base}, which nobody else has; push that and name its repository"
    findings = [Finding("base model", "failed", detail) if is_here else Finding("base model", "ok", base)]

    def loads(status: str, detail: str):
        return [*findings, Finding("loads", status, detail)], set(), [], None

    if task not in ADAPTED:
        wanted = " or ".join(ADAPTED)
        return loads("failed", f"{ADAPTER_CONFIG} has the task_type {task!r}; expected {wanted}")
    if not find_spec("peft"):
        return loads("skipped", "adapters need the package peft: pip install 'hf-gpt-scratch[lora]'")
    try:
        base_folder = resolve_source(base)  # downloaded, where it was not before
        read_config(base_folder, GPTScratchConfig.model_type)
    except InputError as error:
        return loads("failed" if is_here else "skipped", str(error).rstrip("."))
    auto_class = ADAPTED[task][1]
    return findings, {auto_class}, [auto_class], base_folder


def _loaded(answer: dict, is_own: bool) -> str:
    """What to say of a class that was loaded elsewhere."""
    if "error" in answer:
        raise Failure(answer["error"])
    if not answer["code"].startswith("transformers_modules"):
        raise Failure(f"loads code of {answer['code']} in place of the folder's")
    missing, other = answer.get("missing", []), answer.get("unexpected", []) + answer.get("mismatched", [])
    if is_own and (missing or other):
        raise Failure(f"the weights do not fit: {', '.join((missing + other)[:5])}")
    return f"loads; {', '.join(missing[:3])} would be new" if missing else "loads"


def tokenizer_loaded(folder: Path, answer: dict) -> str:
    """What to say of the tokenizer that was loaded elsewhere: it must make the same tokens of `TEXTS` as here."""
    from ..tokenizer import load_tokenizer

    if "error" in answer:
        raise Failure(answer["error"])
    tokenizer = load_tokenizer(str(folder))
    for text, found in zip(TEXTS, answer["ids"], strict=True):
        if found != (expected := tokenizer(text)["input_ids"]):
            raise Failure(f"it makes {found} of {text!r}, and here {expected}")
    return "loads; the same tokens as here"


def compare_logits(found: list | None, expected: list) -> Finding:
    """Whether logits `(B, C)` are those recorded, but for rounding."""
    import torch

    from ..model_folder.reference_logits import TOLERANCE

    if found is None:
        return Finding("logits", "failed", "the class that they were recorded with does not load")
    logits, recorded = (torch.tensor(values, dtype=torch.float64) for values in (found, expected))
    if logits.shape != recorded.shape:
        return Finding("logits", "failed", f"{list(logits.shape)} of them, {list(recorded.shape)} were recorded")
    difference = (logits - recorded).abs().max().item()
    is_close = difference <= TOLERANCE * max(1.0, recorded.abs().max().item())  # NaN is not
    return Finding(
        "logits", "ok" if is_close else "failed", f"differ by {difference:.1e} from those recorded at saving"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks that a model's folder loads where this package is not installed, and is fit to share. Code in the"
        " folder runs only if it is this package's own."
    )
    parser.add_argument("dir", metavar="DIR", help="the folder of a model or an adapter")
    parser.add_argument(
        "--record", action="store_true", help="first keep its answers as those that later checks compare with"
    )
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the code in the folder even where it is not this package's own: look at it first",
    )


def run(args: argparse.Namespace) -> None:
    """
    The command: prints a line for each check.

    Raises:
        InputError: when the folder holds no model, or, after the table was printed, a check failed.
    """
    if args.record:
        record_reference_logits(Path(args.dir))
    findings = check(Path(args.dir), args.trust_remote_code)
    print(table(findings))
    require(findings, Path(args.dir))
