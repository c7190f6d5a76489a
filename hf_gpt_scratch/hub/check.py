"""`hf-gpt-scratch check`: whether a model's folder loads for anyone, anywhere, and holds nothing that should stay."""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..saving import ADAPTER_CONFIG
from . import reference_logits

# What belongs in a repository; the rest of a training's output stays where it is.
UPLOADED = (
    "config.json generation_config.json adapter_config.json *.safetensors *.safetensors.index.json tokenizer.json"
    " tokenizer_config.json special_tokens_map.json vocab.json merges.txt chat_template.jinja README.md LICENSE"
    f" {reference_logits.FILE} plots/*.png"
).split()
OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".npz"}
SECRETS = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "an API key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
}
PATHS = r"(?<![\w.:/])/(?:home|Users|root|tmp|content|mnt|data|workspace|work|opt|var)/[\w.-]+|\b[A-Za-z]:\\\\?\w"
TEXTS = ("plain words", "Café naïve, 1234 €", "  two spaces\nand a line", "emoji 😀 and tabs\t.")


@dataclass(frozen=True)
class Finding:
    """What one check came to: `status` is "ok", "failed" or "skipped"."""

    name: str
    status: str
    detail: str


class _Failure(Exception):
    """A check failed, and the message says why."""


class _Skip(Exception):
    """A check could not be made, and the message says why."""


def uploadable(folder: Path) -> list[Path]:
    """The files of a model's folder that belong in a repository, its code among them."""
    patterns = [*UPLOADED, *_code_files(folder)]
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _code_files(folder: Path) -> set[str]:
    config = folder / "config.json"
    auto_map = json.loads(config.read_text(encoding="utf-8")).get("auto_map", {}) if config.is_file() else {}
    names = {f"{reference.split('--')[-1].split('.')[0]}.py" for reference in auto_map.values()}
    return names | ({"configuration_gpt_scratch.py"} if names else set())  # which the model's code imports


def check(folder: Path) -> list[Finding]:
    """
    All findings about a folder of a model or an adapter.

    Raises:
        InputError: when it is neither.
    """
    if not any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        raise InputError(f"{folder} is no folder of a model or an adapter: it has no config.json or {ADAPTER_CONFIG}.")
    try:
        settings = json.loads((folder / "config.json").read_text("utf-8")) if _has_config(folder) else {}
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'} is not valid JSON ({error}).") from None
    findings = []

    def add(name: str, examine: Callable[[], str]) -> None:
        try:
            findings.append(Finding(name, "ok", examine()))
        except _Skip as reason:
            findings.append(Finding(name, "skipped", str(reason)))
        except _Failure as failure:
            findings.append(Finding(name, "failed", str(failure)))

    add("weights", lambda: check_weights(folder))
    add("files", lambda: check_files(folder))
    add("secrets and paths", lambda: check_texts(folder))
    add("tokenizer", lambda: check_tokenizer(folder, settings))
    if any("Classification" in name for name in settings.get("architectures") or ()):
        add("label names", lambda: check_labels(settings))
    if "GPTScratchForCausalLM" in (settings.get("architectures") or ()):
        add("generation config", lambda: check_generation_config(folder, settings))
    if any(finding.status == "failed" and finding.name == "weights" for finding in findings):
        return findings
    return findings + check_loading(folder, settings)


def _has_config(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def check_weights(folder: Path) -> str:
    """Safetensors alone, whole, of finite numbers."""
    import torch
    from safetensors import SafetensorError, safe_open

    other = sorted(path.name for path in folder.iterdir() if path.suffix in OTHER_WEIGHTS)
    if other:
        raise _Failure(
            f"{', '.join(other)}: weights belong in safetensors, which run no code; delete or convert these"
        )
    paths = set(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        named = {folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        if named != paths:
            wrong = ", ".join(sorted(path.name for path in named ^ paths))
            raise _Failure(f"{index.name} and the files disagree about {wrong}; save the model again")
    if not paths:
        raise _Failure("there is no *.safetensors; save the model again")
    count = 0
    for path in sorted(paths):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    tensor = file.get_tensor(name)
                    count += tensor.numel()
                    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                        raise _Failure(f"{name} in {path.name} holds NaN or infinity: the training went wrong")
        except (SafetensorError, OSError) as error:
            raise _Failure(f"{path.name} cannot be read ({error}); save the model again") from None
    return f"{count:,} numbers in {len(paths)} file{'s' if len(paths) > 1 else ''} of safetensors"


def check_files(folder: Path) -> str:
    """No code but the model's own, and no links to what another machine does not have."""
    known = _code_files(folder)
    stray = sorted(path.name for path in folder.iterdir() if path.suffix == ".py" and path.name not in known)
    stray += sorted(path.name for path in folder.iterdir() if path.is_symlink())
    missing = sorted(name for name in known if not (folder / name).is_file())
    if missing:
        raise _Failure(f"{', '.join(missing)} is missing, which auto_map promises; save the model again")
    if stray:
        raise _Failure(f"{', '.join(stray)} does not belong in a repository; move it away")
    uploaded = uploadable(folder)
    tops = {path.relative_to(folder).parts[0] for path in uploaded}
    staying = sum(path.name not in tops for path in folder.iterdir())
    return f"{len(uploaded)} to upload" + (f"; {staying} others stay here" if staying else "")


def check_texts(folder: Path) -> str:
    """No token and no path of this machine in any text that would be uploaded."""
    texts = [path for path in uploadable(folder) if path.suffix not in (".safetensors", ".png")]
    own = {str(Path.home()), str(folder.absolute().parent)} - {"/"}
    for path in texts:
        content = path.read_text(encoding="utf-8", errors="replace")
        for what, pattern in SECRETS.items():
            if path.name != "tokenizer.json" and re.search(pattern, content):
                raise _Failure(f"{path.name} holds {what}; take it out, and revoke it if it was shared")
        if path.name in ("tokenizer.json", "vocab.json", "merges.txt"):
            continue  # words of the training text
        found = re.search(PATHS, content) or next((re.search(re.escape(one), content) for one in own), None)
        if found:
            raise _Failure(f"{path.name} holds the path {found.group()!r} of this machine; name it otherwise")
    return f"none in {len(texts)} files"


def check_tokenizer(folder: Path, settings: dict) -> str:
    """It loads, gives back what it read, and has the model's vocabulary and special tokens."""
    from ..tokenizer import load_tokenizer

    try:
        tokenizer = load_tokenizer(str(folder))
    except (InputError, OSError, ValueError) as error:
        raise _Failure(f"{str(error).rstrip('.')}; save it with tokenizer.save_pretrained") from None
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if back != text:
            raise _Failure(f"it makes {back!r} of {text!r}")
        if settings and max(ids) >= settings["vocab_size"]:
            raise _Failure(f"it has token {max(ids)}, and the model {settings['vocab_size']} of them")
    for kind in ("bos", "eos", "pad"):
        key = f"{kind}_token_id"
        wanted, held = settings.get(key), getattr(tokenizer, key)
        if wanted is not None and held is not None and held not in (wanted if isinstance(wanted, list) else [wanted]):
            raise _Failure(f"its {key} is {held}, and that of config.json {wanted}")
    return f"{len(tokenizer):,} tokens, texts come back whole"


def check_labels(settings: dict) -> str:
    """Labels have names, and both tables agree."""
    names, numbers = settings.get("id2label") or {}, settings.get("label2id") or {}
    if not names or any(re.fullmatch(r"LABEL_\d+", name) for name in names.values()):
        raise _Failure("the labels have no names; set id2label and label2id in config.json")
    if {name: int(number) for number, name in names.items()} != {
        name: int(number) for name, number in numbers.items()
    }:
        raise _Failure("id2label and label2id in config.json contradict each other")
    return ", ".join(names.values())


def check_generation_config(folder: Path, settings: dict) -> str:
    """It is there, and ends a text where the model does."""
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _Failure(f"it cannot be read ({str(error).splitlines()[0]}); save the model again") from None
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        wanted, held = settings.get(key), getattr(generation, key)
        if held is not None and wanted is not None and held != wanted:
            raise _Failure(f"its {key} is {held}, and that of config.json {wanted}")
    if generation.eos_token_id is None:
        raise _Failure("it has no eos_token_id, so that no text would end; set it in generation_config.json")
    return f"ends at token {generation.eos_token_id}"


def check_loading(folder: Path, settings: dict) -> list[Finding]:
    """A finding for each Auto class that loads the folder where this package is not installed, and for its logits."""
    from ..conversion.proof import AUTO_CLASSES
    from .clean_process import load_elsewhere

    path = folder / reference_logits.FILE
    reference = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if settings:
        own = {AUTO_CLASSES[name] for name in settings.get("architectures") or () if name in AUTO_CLASSES}
        classes = list(settings.get("auto_map", {}))
        if not classes:
            return [
                Finding("loads", "failed", "config.json has no auto_map, so it loads nowhere; save the model again")
            ]
    else:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
        if os.path.isabs(base) or Path(base).is_dir():
            detail = f"its base model is the folder {base}, which nobody else has; push that and name its repository"
            return [Finding("base model", "failed", detail)]
        return [
            Finding("base model", "ok", base),
            Finding("logits", "skipped", "they are those of its base model too"),
        ]
    findings = []
    answers = load_elsewhere(str(folder.absolute()), classes, reference)
    for name, answer in answers.items():
        if "error" in answer:
            findings.append(Finding(name, "failed", answer["error"]))
        elif not answer["code"].startswith("transformers_modules"):
            findings.append(Finding(name, "failed", f"loads code of {answer['code']} in place of the folder's"))
        elif name in own and (wrong := answer["missing"] + answer["unexpected"] + answer["mismatched"]):
            findings.append(Finding(name, "failed", f"the weights do not fit: {', '.join(wrong[:5])}"))
        else:
            new = answer.get("missing")
            findings.append(Finding(name, "ok", f"loads; {', '.join(new[:3])} would be new" if new else "loads"))
    if reference is None:
        return [
            *findings,
            Finding("logits", "skipped", f"there is no {reference_logits.FILE}, which our scripts write"),
        ]
    return [
        *findings,
        compare_logits(answers.get(reference["auto_class"], {}).get("logits"), reference["logits"]),
    ]


def compare_logits(found: list | None, expected: list) -> Finding:
    """Whether logits `(B, C)` are those recorded, but for rounding."""
    from ..conversion.proof import TOLERANCE

    if found is None:
        return Finding("logits", "failed", "the class that they were recorded with does not load")
    pairs = [(a, b) for row, other in zip(found, expected) for a, b in zip(row, other)]
    difference = max(abs(a - b) for a, b in pairs)
    is_close = difference <= TOLERANCE * max(1.0, *(abs(b) for _, b in pairs))
    return Finding(
        "logits", "ok" if is_close else "failed", f"differ by {difference:.1e} from those recorded at saving"
    )


def table(findings: list[Finding]) -> str:
    """A line for each finding, coloured in a terminal."""
    colours = {"ok": "\033[32m", "failed": "\033[31m", "skipped": "\033[33m"}
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        status = f"{finding.status:8}"
        if coloured:
            status = f"{colours[finding.status]}{status}\033[0m"
        lines.append(f"{finding.name:{width}}  {status}  {finding.detail}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Checks that a model's folder loads where this package is not installed, and is fit to share."
    parser.add_argument("dir", metavar="DIR", help="the folder of a model or an adapter")


def require(findings: list[Finding], folder: Path) -> None:
    """Raises `InputError` when a check failed."""
    failed = sum(finding.status == "failed" for finding in findings)
    if failed:
        raise InputError(f"{failed} of {len(findings)} checks of {folder} failed; what to do stands beside each.")


def run(args: argparse.Namespace) -> None:
    findings = check(Path(args.dir))
    print(table(findings))
    require(findings, Path(args.dir))
