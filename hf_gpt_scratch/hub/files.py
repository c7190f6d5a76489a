"""Which files of a model's folder belong in a repository, and what must not be in them."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from ..model_folder import reference_logits
from ..model_folder.contents import ADAPTER_CONFIG
from .findings import Failure
from .model_card import is_replaceable
from .secrets import leaks

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
# What the model's code may import: what loading it takes in any case
INSTALLED = {"torch", "transformers", "safetensors", "tokenizers", "huggingface_hub", "numpy"}


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
    _require_imports(folder)
    uploaded = uploadable(folder)
    names = {path.relative_to(folder).as_posix() for path in uploaded}
    held = {path.relative_to(folder).as_posix(): path for path in _held(folder)}
    left = {name for name in held if any(fnmatch(name, pattern) for pattern in LEFT)}
    stray = sorted(name for name, path in held.items() if path.is_symlink() or name not in names | left)
    if stray:
        more = f" and {len(stray) - 5} more" if len(stray) > 5 else ""
        belong, them = ("does not belong", "it") if len(stray) == 1 else ("do not belong", "them")
        raise Failure(f"{', '.join(stray[:5])}{more} {belong} in a repository; move {them} away")
    return f"{len(uploaded)} to upload" + (f"; {len(left)} others stay here" if left else "")


def _require_imports(folder: Path) -> None:
    """Raises `Failure` when the model's code needs more than whoever has transformers has installed."""
    from transformers.dynamic_module_utils import get_imports

    for name in sorted(code_files(folder)):
        try:
            needed = set(get_imports(folder / name))
        except (SyntaxError, ValueError) as error:
            raise Failure(f"{name} is no Python that can be read ({error}); save the model again") from None
        if foreign := sorted(needed - INSTALLED - sys.stdlib_module_names):
            raise Failure(f"{name} imports {', '.join(foreign)}, which not everyone has; do without")


def _held(folder: Path) -> Iterator[Path]:
    """What lies in the folder, plots/ and results/ opened."""
    for path in folder.iterdir():
        if path.name in ("plots", "results") and path.is_dir() and not path.is_symlink():
            yield from path.iterdir()
        else:
            yield path


def check_texts(folder: Path) -> str:
    """No token and no path of this machine in any file that would be uploaded."""
    files = {path.relative_to(folder).as_posix(): path for path in uploadable(folder)}
    readme = files.get("README.md")
    if readme and is_replaceable(readme.read_text(encoding="utf-8", errors="replace")):
        del files["README.md"]  # a card of this package takes its place, and is looked at then
    require_no_leaks(files, folder)
    return f"none in {len(files)} files"


def require_no_leaks(files: Mapping[str, Path | bytes], folder: Path) -> None:
    """Raises `Failure` when files of a repository, by their names in it, tell what they must not."""
    own = (Path.home(), folder.absolute().parent, folder.resolve().parent)
    problems = [problem for name, content in files.items() for problem in leaks(name, content, own)]
    if problems:
        raise Failure("; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""))
