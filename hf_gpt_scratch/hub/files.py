"""Which files of a model's folder belong in a repository, and what must not be in them."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..model_folder.contents import ADAPTER_CONFIG, ModelFolder, is_hub_id
from ..utils.files import read_json_object
from .findings import CheckFailed
from .handler import HANDLER, is_own, own_files
from .model_card import is_replaceable
from .secrets import secrets_in

# What the model's code may import: what loading it takes in any case
INSTALLED = {"torch", "transformers", "safetensors", "tokenizers", "huggingface_hub", "numpy"}


def uploadable(folder: str | os.PathLike) -> list[Path]:
    """The files of a model's folder that belong in a repository, its code among them."""
    return ModelFolder.read(folder).files()


def upload_files(model: ModelFolder) -> dict[str, Path | bytes]:
    """What a repository gets of the folder, by name; an adapter's settings as the model has them."""
    files: dict[str, Path | bytes] = {path.relative_to(model.path).as_posix(): path for path in model.files()}
    if model.is_adapter and model.adapter != read_json_object(model.path / ADAPTER_CONFIG):
        files[ADAPTER_CONFIG] = (json.dumps(model.adapter, indent=2) + "\n").encode()
    return files


def check_files(model: ModelFolder) -> str:
    """The model's code is there, and none of the files to upload is a link; what is not uploaded is named."""
    if foreign := [f"{name} ({reference})" for name, reference in model.code_elsewhere.items()]:
        raise CheckFailed(
            f"auto_map in config.json names code that is not beside it: {', '.join(foreign)}; save the model again"
        )
    missing = sorted(name for name in model.code_files if not (model.path / name).is_file())
    _require_imports(model, model.code_files - set(missing))
    if missing:
        raise CheckFailed(
            f"{', '.join(missing)} is missing, although loading the model needs it: save the model again"
        )
    uploaded = model.files()
    names = [path.relative_to(model.path).as_posix() for path in uploaded]
    links = [
        name for name, path in zip(names, uploaded) if path.is_symlink() or path.parent.is_symlink() and "/" in name
    ]
    if links:
        raise CheckFailed(f"{', '.join(links)}: a symbolic link; replace it with a copy of the file")
    left_out = _strays(model.path, set(names))
    shown = ", ".join(left_out[:10]) + (f" and {len(left_out) - 10} more" if len(left_out) > 10 else "")
    return f"{len(uploaded)} to upload, besides the model card" + (
        f"; not part of the model, so not uploaded: {shown}" if left_out else ""
    )


def _strays(folder: Path, uploaded: set[str]) -> list[str]:
    """What is in the folder and is not uploaded; a folder but plots/ counts as one."""
    held = [path for path in folder.iterdir() if path.name != "plots"] + list(folder.glob("plots/*"))
    names = {f"{path.relative_to(folder).as_posix()}{'/' * path.is_dir()}" for path in held}
    own_handler = own_files().keys() if is_own(folder / HANDLER) else ()  # of a push with --with-handler
    return sorted(names - uploaded - set(own_handler))


def _require_imports(model: ModelFolder, names: Iterable[str]) -> None:
    """Raises `CheckFailed` when these files of the model's code need more than what comes with transformers."""
    from transformers.dynamic_module_utils import get_imports

    for name in sorted(names):
        try:
            needed = set(get_imports(model.path / name))
        except (SyntaxError, ValueError) as error:
            raise CheckFailed(f"{name} is not valid Python ({error}): save the model again") from None
        if foreign := sorted(needed - INSTALLED - sys.stdlib_module_names):
            raise CheckFailed(
                f"{name} imports {', '.join(foreign)}, which not everyone has installed: remove that import"
            )


def check_texts(folder: str | os.PathLike) -> str:
    """No token and no path of this machine in any file to upload."""
    model = ModelFolder.read(folder)
    if model.is_adapter and not is_hub_id(model.adapter.get("base_model_name_or_path")):
        model = model.with_base("")  # of which the base model's own check tells
    files = upload_files(model)
    readme = files.get("README.md")
    if readme and is_replaceable(readme.read_text(encoding="utf-8", errors="replace")):
        del files["README.md"]  # replaced by a card of this package, which is checked then
    require_no_secrets(files, model.path)
    return f"none in {len(files)} files"


def require_no_secrets(files: Mapping[str, Path | bytes], folder: Path) -> None:
    """Raises `CheckFailed` when files of a repository, by their names in it, hold a secret or a local path."""
    own = (Path.home(), folder.absolute().parent, folder.resolve().parent)
    problems = [problem for name, content in files.items() for problem in secrets_in(name, content, own)]
    if problems:
        raise CheckFailed("; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""))
