"""
Folders and files that are complete or absent: written under a temporary name, brought to the disk, then renamed.

A killed process leaves the temporary one, `.NAME.partial-...`, and a lock file beside it, `.NAME.partial.lock`. The
next command that writes NAME finds that unlocked, and removes both.
"""

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import NOT_WRITTEN, InputError, naming, one_line
from .locks import free, lock, release, take

WAIT = 30.0  # seconds for another process that writes the same file
SCRATCH = "hf-gpt-scratch-"
SET = ".partial-"  # with which the name of an unfinished set of files begins, in their folder


@contextmanager
def atomic_folder(out: str | os.PathLike) -> Iterator[Path]:
    """
    Yields an empty folder to write in, which takes the name `out` when the block ends, and is removed if it raises.

    Raises:
        InputError: when `out` is there already and is not an empty folder, or another command is writing it.
    """
    require_new(out)
    out = Path(out).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with claim(out):
        require_new(out)  # which the command before us may have written meanwhile
        partial = _new_partial(out)
        partial.mkdir()
        try:
            yield partial
            sync(partial)
            if out.exists():
                out.rmdir()
            partial.rename(out)
            sync_entries(out.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_json(path: str | os.PathLike, value) -> None:
    """Writes `value` as JSON for people to read, whole or not at all."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """
    Writes a file, whole or not at all, even where the machine stops.

    Raises:
        InputError: when another command has been writing the same file for half a minute.
        OSError: naming `path`, when it cannot be written.
    """
    path = Path(path)
    with claim(path, WAIT):
        partial = _new_partial(path)
        try:
            with open(partial, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync_entries(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def together(folder: str | os.PathLike) -> Iterator[Path]:
    """
    Yields an empty folder for files that belong together. When the block ends they come into `folder`, in the order
    in which they were written, in place of those of the same names. Where anything fails, `folder` keeps what it had;
    if the process is killed while they come, some of them have.

    Raises:
        InputError: when a file would replace a folder, or another command has been bringing files there for half a
            minute.
        OSError: naming files of `folder`, at once where none can be written there.
    """
    folder = Path(folder)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder.absolute()
        unfinished = re.escape(str(place / SET)) + r"\w+([\\/](new|former)|\.lock$)?"
        with _naming(place, unfinished), scratch_folder(place, SET) as scratch:
            (scratch / "new").mkdir()
            yield scratch / "new"
            with claim(place / "files", WAIT):
                _bring(scratch / "new", place, scratch / "former", new)
    except BaseException:
        for path in new:
            with suppress(OSError):  # somebody has put something there
                path.rmdir()
        raise


def _bring(source: Path, folder: Path, former: Path, new: list[Path]) -> None:
    """Moves all files below `source` to the same places in `folder`, or none; `new` gets the folders that it makes."""
    found = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    targets = {path: folder / path.relative_to(source) for path in found}
    for target in targets.values():
        if target.is_dir():
            raise InputError(f"{target} is a folder, where a file is to be written; rename it.")
        missing = [parent for parent in target.parents if not parent.exists()]
        new[:0] = missing
        target.parent.mkdir(parents=True, exist_ok=True)
    former.mkdir()
    with ExitStack() as undone:
        for number, (path, target) in enumerate(targets.items()):
            if os.path.lexists(target):  # a second name keeps it, and it is never missing
                kept = former / str(number)
                _second_name(target, kept)
                undone.callback(os.replace, kept, target)
            else:
                undone.callback(target.unlink, missing_ok=True)
            replace_file(path, target)
        undone.pop_all()


def _second_name(path: Path, other: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(path, other, follow_symlinks=False)
    except OSError as error:
        if error.errno in NOT_WRITTEN:
            raise
        shutil.copy2(path, other, follow_symlinks=False)


def remove_left_in(folder: Path) -> None:
    """Removes the unfinished files of killed commands that wrote `together` into a folder."""
    _remove_dead(folder.absolute(), SET)


@contextmanager
def claim(target: Path, wait: float = 0.0) -> Iterator[None]:
    """
    Keeps other commands from writing `target` in the block, after removing what a killed one has left of it.

    Args:
        wait: so many seconds for a living command that writes it.

    Raises:
        InputError: when one still does.
    """
    unfinished = re.escape(str(target.with_name(f".{target.name}.partial"))) + r"[-.]\w+"
    with naming(target), _naming(target, unfinished), lock(_lock_of(target), target, wait) as is_left:
        if is_left:
            _remove_partials(target)
        yield


def _remove_partials(target: Path) -> None:
    for path in target.parent.iterdir():
        if path.name.startswith(_partial(target)):
            remove(path)


def remove_left_of(target: Path) -> None:
    """Removes what a command left that was killed when `target` had its name already."""
    with suppress(OSError):  # somebody else's, or in a folder that is read alone
        if os.path.lexists(path := _lock_of(target)) and (taken := take(path)) is not None:
            if taken[1]:
                _remove_partials(target)
            release(path, taken[0])


@contextmanager
def scratch_folder(parent: str | os.PathLike | None = None, prefix: str = SCRATCH) -> Iterator[Path]:
    """
    Yields an empty folder that is removed after the block. Those that killed processes have left in the same place
    are removed first: each has a lock file, NAME.lock, beside it.

    Args:
        parent: the folder to make it in; by default the system's for temporary files.
        prefix: of its name.
    """
    parent = Path(tempfile.gettempdir() if parent is None else parent).absolute()
    _remove_dead(parent, prefix)
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"  # not made before it is locked
        beside = _lock_beside(folder)
        if (taken := take(beside)) is not None:
            break
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        remove(folder)
        release(beside, taken[0])


def replace_file(source: Path, target: Path) -> None:
    """Renames a complete file, on the same disk, in place of what is there."""
    sync(source)
    os.replace(source, target)
    sync_entries(target.parent)


def _remove_dead(parent: Path, prefix: str) -> None:
    """Removes the scratch folders of dead processes."""
    try:
        left = list(parent.iterdir())
    except PermissionError:  # one may write there, but not see what others have
        return
    for path in left:
        if not (path.name.startswith(prefix) and path.name.endswith(".lock")):
            continue
        with suppress(OSError):  # somebody else's, in a folder that all users share
            if (taken := take(path)) is None:
                continue
            folder = path.with_name(path.name.removesuffix(".lock"))
            if taken[1]:
                remove(folder)
            if os.path.lexists(folder):  # a process that the dead one had started still writes there
                free(taken[0])
            else:
                release(path, taken[0])


def _lock_beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with what is in it, as far as that can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Brings a file, or a folder with all that is in it, from the system's memory to the disk."""
    if path.is_symlink():
        return
    if path.is_dir():
        for one in path.iterdir():
            sync(one)
        sync_entries(path)
        return
    with open(path, "r+b" if os.name == "nt" else "rb") as file:  # Windows asks for the right to write
        os.fsync(file.fileno())


def sync_entries(folder: Path) -> None:
    """Brings to the disk which names there are in a folder, so that a rename outlasts a power cut."""
    if os.name == "nt":  # which opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know of nothing to bring
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _naming(target: Path, temporary: str) -> Iterator[None]:
    """
    Where a temporary file, whose name has that pattern, or one without a name cannot be written, the error is raised
    anew with `target`'s name.
    """
    try:
        yield
    except OSError as error:
        # shutil's copies tell their source first
        found = error.filename2 if error.errno in NOT_WRITTEN and error.filename2 else error.filename
        name = os.fsdecode(found) if isinstance(found, str | bytes | os.PathLike) else None
        if name is None and error.errno not in NOT_WRITTEN:
            raise
        known = str(target) if name is None else re.sub(temporary, lambda _: str(target), name)
        raise OSError(error.errno, error.strerror, known) from None


def _partial(target: Path) -> str:
    """What the names of a target's temporary files and folders begin with."""
    return f".{target.name}.partial-"


def _lock_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial.lock")


def _new_partial(target: Path) -> Path:
    return target.with_name(f"{_partial(target)}{secrets.token_hex(4)}")  # of its own also where there are no locks


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
        remove_left_of(out)
        _remove_dead(Path(tempfile.gettempdir()), SCRATCH)
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
    # os.path answers for a name that is too long, too.
    return not os.path.exists(path) and (is_local or (parent != Path(".") and os.path.isdir(parent)))


def read_json(path: str | os.PathLike, object_pairs_hook=None, whole_characters: bool = True):
    """
    What a JSON file holds.

    Args:
        object_pairs_hook: that of `json.loads`.
        whole_characters: whether half a character (a lone surrogate), which no file can be written with, is refused.

    Raises:
        InputError: when it is missing, or not JSON.
    """
    require_file(path)
    if not Path(path).is_file():
        raise InputError(f"{path} is not a regular file; give a JSON file.")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        value = json.loads(text, object_pairs_hook=object_pairs_hook)
        if whole_characters and "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise InputError(f"{path} holds half a character (a lone surrogate); correct it.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}).") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({one_line(error)}).") from None


def read_json_object(path: str | os.PathLike, object_pairs_hook=None) -> dict:
    """What a JSON file holds, which must be an object; raises `InputError` when it is missing or something else."""
    values = read_json(path, object_pairs_hook)
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(values).__name__}.")
    return values
