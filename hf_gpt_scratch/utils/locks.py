"""
Locks of living processes: a file that the system locks for its owner, and frees when that one ends, however it ends.
Who finds the file unlocked knows that its owner was killed, and may remove what that one left.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

PAUSE = 0.02  # seconds between two attempts
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # of a file system that has none


@contextmanager
def lock(path: Path, target: str | os.PathLike, wait: float = 0.0) -> Iterator[bool]:
    """
    Holds the lock file `path` in the block, and removes it after. Yields whether a dead process had left it.

    Args:
        target: what is written under this lock, for the message.
        wait: so many seconds for a living process that holds it.

    Raises:
        InputError: when one still does.
    """
    end = time.monotonic() + wait
    while (taken := take(path)) is None:
        if time.monotonic() >= end:
            raise InputError(f"Another command is writing {target}; wait for it to end, or choose another name.")
        time.sleep(PAUSE)
    descriptor, is_left = taken
    try:
        yield is_left
    finally:
        release(path, descriptor)


def take(path: Path) -> tuple[int, bool] | None:
    """
    Makes and locks the file `path`. Returns its descriptor, for `release`, and whether a dead process had left it;
    `None` where a living process, or another thread of this one, holds it.
    """
    try:
        descriptor, was_there = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666), False
    except FileExistsError:
        try:
            descriptor, was_there = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)), True
        except FileNotFoundError:  # its owner has just ended
            return None
    is_locked = _lock(descriptor)
    # Between the opening and the locking, its owner may have ended and removed it: then that is another file.
    if is_locked is False or not _is_at(path, descriptor):
        os.close(descriptor)
        return None
    return descriptor, was_there and is_locked is True


def release(path: Path, descriptor: int) -> None:
    """Removes a file that `take` has locked, and then frees it for whoever waits."""
    if fcntl is None:  # Windows removes no open file
        os.close(descriptor)
    with suppress(FileNotFoundError, PermissionError):  # on Windows, somebody may have opened it meanwhile
        os.unlink(path)
    if fcntl is not None:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether the file could be locked; `None` where the file system has no locks, and who lives is not known."""
    try:
        if fcntl is None:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
