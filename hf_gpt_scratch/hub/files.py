"""Which files of a model's folder belong in a repository, and what must not be in them."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ..model_folder.contents import ModelFolder
from .findings import CheckFailed
from .model_card import is_replaceable
from .secrets import secrets_in

# What the model's code may import: what loading it takes in any case
INSTALLED = {"torch", "transformers", "safetensors", "tokenizers", "huggingface_hub", "numpy"}


def uploadable(folder: str | os.PathLike) -> list[Path]:
    """The files of a model's folder that belong in a repository, its code among them."""
    return ModelFolder.read(folder).files()


def check_files(model: ModelFolder) -> str:
    """The model's code is there, and no link is among what would be uploaded; what stays here is named."""
    if foreign := [f"{name} ({reference})" for name, reference in model.code_elsewhere.items()]:
        raise CheckFailed(
            f"auto_map in config.json names code that is not beside it: {', '.join(foreign)}; save it again"
        )
    missing = sorted(name for name in model.code_files if not (model.path / name).is_file())
    if missing:
        raise CheckFailed(f"{', '.join(missing)} is missing, which auto_map promises; save the model again")
    _require_imports(model)
    uploaded = model.files()
    names = [path.relative_to(model.path).as_posix() for path in uploaded]
    links = [
        name for name, path in zip(names, uploaded) if path.is_symlink() or path.parent.is_symlink() and "/" in name
    ]
    if links:
        raise CheckFailed(f"{', '.join(links)}: a link, whose target would be uploaded; put the file itself there")
    stay = _strays(model.path, set(names))
    shown = ", ".join(stay[:10]) + (f" and {len(stay) - 10} more" if len(stay) > 10 else "")
    return f"{len(uploaded)} to upload" + (f"; stays here: {shown}" if stay else "")


def _strays(folder: Path, uploaded: set[str]) -> list[str]:
    """What lies in the folder and is not uploaded, folders as a whole but plots/."""
    held = [path for path in folder.iterdir() if path.name != "plots"] + list(folder.glob("plots/*"))
    names = {f"{path.relative_to(folder).as_posix()}{'/' * path.is_dir()}" for path in held}
    return sorted(names - uploaded)


def _require_imports(model: ModelFolder) -> None:
    """Raises `CheckFailed` when the model's code needs more than whoever has transformers has installed."""
    from transformers.dynamic_module_utils import get_imports

    for name in sorted(model.code_files):
        try:
            needed = set(get_imports(model.path / name))
        except (SyntaxError, ValueError) as error:
            raise CheckFailed(f"{name} is no Python that can be read ({error}); save the model again") from None
        if foreign := sorted(needed - INSTALLED - sys.stdlib_module_names):
            raise CheckFailed(f"{name} imports {', '.join(foreign)}, which not everyone has; do without")


def check_texts(folder: str | os.PathLike) -> str:
    """No token and no path of this machine in any file that would be uploaded."""
    model = ModelFolder.read(folder)
    files = {path.relative_to(model.path).as_posix(): path for path in model.files()}
    readme = files.get("README.md")
    if readme and is_replaceable(readme.read_text(encoding="utf-8", errors="replace")):
        del files["README.md"]  # a card of this package takes its place, and is looked at then
    require_no_secrets(files, model.path)
    return f"none in {len(files)} files"


def require_no_secrets(files: Mapping[str, Path | bytes], folder: Path) -> None:
    """Raises `CheckFailed` when files of a repository, by their names in it, tell what they must not."""
    own = (Path.home(), folder.absolute().parent, folder.resolve().parent)
    problems = [problem for name, content in files.items() for problem in secrets_in(name, content, own)]
    if problems:
        raise CheckFailed("; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""))
