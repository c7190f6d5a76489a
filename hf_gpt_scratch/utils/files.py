"""Folders and files that are complete or absent: written under a temporary name, then renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def atomic_folder(out: str | os.PathLike) -> Iterator[Path]:
    """
    Yields an empty folder to write in, which takes the name `out` when the block ends, and is removed if it raises.

    Raises:
        InputError: when `out` is there already and is not an empty folder.
    """
    require_new(out)
    out = Path(out).absolute()
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: str | os.PathLike, value) -> None:
    """Writes `value` as JSON for people to read, whole or not at all."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, whole or not at all."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def link_file(path: Path, link: Path) -> None:
    """Makes `link` a symbolic link to the file, or a copy of it where the system allows no links."""
    try:
        link.symlink_to(path.resolve())
    except OSError:  # Windows lets only administrators link
        shutil.copyfile(path, link)


def require_new(out: str | os.PathLike) -> None:
    """Raises `InputError` when `out` is there already and is not an empty folder."""
    out = Path(out).absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} already exists; choose another name or delete it first.")


def require_folder(path: str | os.PathLike, what: str = "folder", purpose: str = "") -> None:
    """
    Raises `InputError` when there is no local folder of this name.

    Args:
        what: such as "model folder", for the message.
        purpose: what it is for, such as "to find tasks in".
    """
    if not Path(path).exists():
        raise InputError(f"There is no {what} {str(path)!r}{purpose and ' '}{purpose}.")
    if not Path(path).is_dir():
        raise InputError(f"{path} is a file; expected a {what}.")


def require_file(path: str | os.PathLike, what: str = "file") -> None:
    """Raises `InputError` when nothing of this name, such as a file or a pipe, can be read."""
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder; name a file in it.")
    if not Path(path).exists():
        raise InputError(f"The {what} {path} does not exist.")


def require_present(name_or_path: str | os.PathLike) -> None:
    """Raises `InputError` for what cannot be a Hub repository and does not exist here either."""
    if is_missing_folder(name_or_path):
        hint = "; python training/demo.py makes the models of runs/demo" if "demo" in Path(name_or_path).parts else ""
        raise InputError(f"There is no file or folder {name_or_path}{hint}.")


def is_missing_folder(name_or_path: str | os.PathLike) -> bool:
    """Whether this can only be a local folder, and does not exist: `runs/x` where `runs` is a folder."""
    path, parent = Path(name_or_path), Path(name_or_path).parent
    is_local = str(name_or_path).startswith((".", "/")) or len(path.parts) > 2
    return not path.exists() and (is_local or (parent != Path(".") and parent.is_dir()))


def read_json(path: str | os.PathLike, object_pairs_hook=None):
    """What a JSON file holds; raises `InputError` when it is missing or not JSON. The hook is that of `json.loads`."""
    require_file(path)
    if not Path(path).is_file():
        raise InputError(f"{path} is not a regular file; give a JSON file.")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=object_pairs_hook)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}).") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}).") from None


def read_json_object(path: str | os.PathLike, object_pairs_hook=None) -> dict:
    """What a JSON file holds, which must be an object; raises `InputError` when it is missing or something else."""
    values = read_json(path, object_pairs_hook)
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(values).__name__}.")
    return values
