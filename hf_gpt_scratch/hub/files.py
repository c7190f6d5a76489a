"""Which files of a model's folder belong in a repository, and what must not be in them."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from ..saving import ADAPTER_CONFIG
from . import reference_logits
from .findings import Failure

# What belongs in a repository; the rest of a training's output stays where it is.
UPLOADED = (
    f"config.json generation_config.json {ADAPTER_CONFIG} *.safetensors *.safetensors.index.json tokenizer.json"
    " tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json merges.txt chat_template.jinja"
    f" README.md LICENSE {reference_logits.FILE} plots/*.png"
).split()
# What our scripts, git and the Hub's client leave beside a model, none of it for a repository
LEFT = (
    "metrics.json",
    "conversion.json",
    "results/*.json",
    "responses.json",
    "samples.jsonl",
    "predictions.csv",
    "harness.json",
    "judge.json",
    "judge.png",
    "*.partial.jsonl",
    "preferences.sqlite",
    "preferences.json",
    "checkpoint-*",
    "checkpoints",
    "runs",
    ".model.*",
    ".*.partial",
    ".git",
    ".gitattributes",
    ".gitignore",
    ".cache",
    "__pycache__",
    ".ipynb_checkpoints",
    ".DS_Store",
)
VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt")  # words of the training text, paths maybe among them
SECRETS = {
    "a Hugging Face token": r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}",
    "an API key": r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{20,}|(?i:\bapi[_-]?key[\"']?\s*[:= ]\s*[\"']?[\w-]{16,})",
    "a GitHub token": r"(?<![A-Za-z0-9])(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}",
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "a bearer token": r"\bBearer [A-Za-z0-9._~+/-]{16,}",
    "a password in an address": r"://[^/\s:@]+:[^/\s:@]+@",
}
START = r"(?:(?<![\w.:/~-])|(?<=file://))"  # not within a longer path or an address
TOPS = "home|Users|root|tmp|content|mnt|media|data|datasets|workspace|work|opt|var|srv|scratch|kaggle|private|Volumes"
PATHS = (
    rf"{START}/(?:{TOPS})/[\w.-]+",
    # A drive's; an escaped line's end, as in "Q:\n", is no folder.
    r"(?<![A-Za-z0-9])[A-Za-z]:(?:\\(?![nrt](?!\w*\\))|\\\\|/)[\w.-]+",
)


def uploadable(folder: Path) -> list[Path]:
    """The files of a model's folder that belong in a repository, its code among them."""
    patterns = [*UPLOADED, *code_files(folder)]
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def code_files(folder: Path) -> set[str]:
    """The names of the files of code that config.json's auto_map promises beside it."""
    modules = {reference.partition(".")[0] for reference in _auto_map(folder).values() if _is_own(reference)}
    return {f"{module}.py" for module in modules} | ({"configuration_gpt_scratch.py"} if modules else set())


def _auto_map(folder: Path) -> dict:
    try:
        auto_map = json.loads((folder / "config.json").read_text(encoding="utf-8"))["auto_map"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return auto_map if isinstance(auto_map, dict) else {}


def _is_own(reference) -> bool:
    return isinstance(reference, str) and re.fullmatch(r"\w+\.\w+", reference) is not None


def check_files(folder: Path) -> str:
    """The model's code is there, and nothing but what belongs in a repository or our scripts leave beside it."""
    foreign = [f"{name} ({reference})" for name, reference in _auto_map(folder).items() if not _is_own(reference)]
    if foreign:
        raise Failure(f"auto_map in config.json names code that is not beside it: {', '.join(foreign)}; save it again")
    missing = sorted(name for name in code_files(folder) if not (folder / name).is_file())
    if missing:
        raise Failure(f"{', '.join(missing)} is missing, which auto_map promises; save the model again")
    uploaded = uploadable(folder)
    names = {path.relative_to(folder).as_posix() for path in uploaded}
    held = {path.relative_to(folder).as_posix(): path for path in _held(folder)}
    left = {name for name in held if any(fnmatch(name, pattern) for pattern in LEFT)}
    stray = sorted(name for name, path in held.items() if path.is_symlink() or name not in names | left)
    if stray:
        more = f" and {len(stray) - 5} more" if len(stray) > 5 else ""
        raise Failure(f"{', '.join(stray[:5])}{more} does not belong in a repository; move it away")
    return f"{len(uploaded)} to upload" + (f"; {len(left)} others stay here" if left else "")


def _held(folder: Path) -> Iterator[Path]:
    """What lies in the folder, plots/ and results/ opened."""
    for path in folder.iterdir():
        if path.name in ("plots", "results") and path.is_dir() and not path.is_symlink():
            yield from path.iterdir()
        else:
            yield path


def check_texts(folder: Path) -> str:
    """No token and no path of this machine in any text that would be uploaded."""
    texts = [path for path in uploadable(folder) if path.suffix not in (".safetensors", ".png")]
    own = {str(parent) for parent in (Path.home(), folder.absolute().parent, folder.resolve().parent)} - {"/"}
    patterns = (*PATHS, *(rf"{START}{re.escape(path)}(?![\w-])" for path in own))
    problems = []
    for path in texts:
        content = path.read_text(encoding="utf-8", errors="replace")
        for what, pattern in SECRETS.items():
            if match := re.search(pattern, content):
                problems.append(f"{path.name} holds {what} ({match.group()[:4]}…); take it out and revoke it")
        if path.name in VOCABULARY:
            continue
        found = {match.group(): where for where, text in _strings(path, content) for match in _all(patterns, text)}
        problems += [
            f"{path.name} holds the path {one!r} of this machine{where and f' in {where}'}; name it by a relative one"
            for one, where in found.items()
        ]
    if problems:
        raise Failure("; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""))
    return f"none in {len(texts)} files"


def _all(patterns, text: str) -> Iterator[re.Match]:
    for pattern in patterns:
        yield from re.finditer(pattern, text)


def _strings(path: Path, content: str) -> Iterator[tuple[str, str]]:
    """The texts in a file and where they stand: those in JSON by their keys, of other files all at once."""
    try:
        pending = [("", json.loads(content))] if path.suffix == ".json" else [("", content)]
    except (ValueError, RecursionError):
        pending = [("", content)]
    while pending:
        where, value = pending.pop()
        if isinstance(value, str):
            yield where, value
        elif isinstance(value, (dict, list)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [(f"{where}.{key}" if where else str(key), one) for key, one in items]
            pending += [(where, key) for key in value if isinstance(value, dict)]
