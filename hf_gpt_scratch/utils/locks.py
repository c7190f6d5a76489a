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
HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)  # of a file that another process has locked
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # of a file system that has none

_held: set[int] = set()  # descriptors of this process


def _leave_to_parent() -> None:
    """In a forked process, such as one that loads data: it would hold its parent's locks after that one is killed."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


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
    try:
        is_locked = _lock(descriptor)
    except OSError:
        os.close(descriptor)
        if not was_there:
            os.unlink(path)
        raise
    # Between the opening and the locking, its owner may have ended and removed it: then that is another file.
    if is_locked is False or not _is_at(path, descriptor):
        os.close(descriptor)
        return None
    _held.add(descriptor)
    return descriptor, was_there and is_locked is True


def free(descriptor: int) -> None:
    """Frees a lock of `take`, and leaves its file."""
    if descriptor in _held:  # else this is a fork, which has none
        _held.discard(descriptor)
        os.close(descriptor)


def release(path: Path, descriptor: int) -> None:
    """Removes a file that `take` has locked, and then frees it for whoever waits."""
    if descriptor not in _held:  # in a fork: it is the parent's
        return
    if fcntl is None:  # Windows removes no open file
        free(descriptor)
    with suppress(FileNotFoundError, PermissionError):  # on Windows, somebody may have opened it meanwhile
        os.unlink(path)
    free(descriptor)


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
        if error.errno not in HELD:
            raise
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
