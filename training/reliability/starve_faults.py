"""What is taken from a command, and how a try is judged."""

import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import full_disk
from full_disk import Disk
from starve_subjects import Subject

MEMORY = (26, 28, 24, 27, 25)  # powers of two, bytes
ERROR = re.compile(r"(?:^|[\r\n])error: ([^\r\n]*)")
LEFTOVER = re.compile(r"\.partial|\.lock$|hf-gpt-scratch-|^tmp|\.incomplete$")
# Of datasets: removed when an interpreter ends, which a fork does not come to
OF_OTHERS = ("hf_datasets-",)
NOISE = ("Traceback (most recent call last)", "Exception ignored", "Fatal Python error", "core dumped")


@dataclass(frozen=True)
class Place:
    """Where a try works: in `folder`, with `tmp` for temporary files and `home` for caches."""

    folder: Path
    tmp: Path
    home: Path


@dataclass(frozen=True)
class Fault:
    """
    Attributes:
        name: for people.
        at: which folder of the place becomes a small disk; `None` for none.
        amount: how much of it there is; what that means the kind says.
        kind: "room", "inodes", "read-only", "permission", "memory", "file size".
    """

    name: str
    kind: str
    at: str | None = None
    amount: int = 0

    @contextmanager
    def disk(self, place: Path) -> Iterator[Disk | None]:
        """The small disk at the place, with as much room as wanted."""
        if self.at is None:
            yield None
            return
        of = {"room": {"size": self.amount}, "inodes": {"inodes": self.amount}}.get(self.kind, {})
        with Disk(getattr(place, self.at), **of) as disk:
            yield disk

    def before(self, disk: Disk | None) -> None:
        """Takes it, for all processes."""
        if self.kind in ("room", "inodes"):
            disk.limit()
        elif self.kind == "read-only":
            disk.make_read_only()

    def within(self, place: Place) -> None:
        """Takes it, in the process of the command."""
        os.environ["TMPDIR"] = str(place.tmp)
        tempfile.tempdir = None
        if self.kind == "permission":
            full_disk.obey_permissions()
        elif self.kind == "memory":
            full_disk.limit_memory(self.amount)
        elif self.kind == "file size":
            full_disk.limit_files(self.amount)


def faults(needed: dict[str, int], tries: int, has_disks: bool, writes: bool) -> list[Fault]:
    """
    Those of a subject.

    Args:
        needed: bytes ("room"), inodes and the size of the largest file that a whole run takes.
        tries: of the room; of the rest there are fewer.
    """
    few = max(2, tries // 4)
    found = [Fault("memory", "memory", amount=2**power) for power in MEMORY[: few + 1]]
    if writes:
        found += [
            Fault("file size", "file size", amount=max(size, full_disk.PAGE))
            for size in spread(needed["file size"], few)
        ]
        found += [Fault("permission", "permission")]
    if has_disks and writes:
        room, inodes = spread(needed["room"], tries), spread(needed["inodes"], few)
        found += [Fault("room", "room", "folder", math.ceil(size / full_disk.PAGE) * full_disk.PAGE) for size in room]
        found += [Fault("inodes", "inodes", "folder", count) for count in inodes]
        found += [Fault("read-only", "read-only", "folder")]
    if has_disks:
        found += [Fault(f"full {at}", "room", at, full_disk.PAGE) for at in ("tmp", "home")]
        found += [Fault(f"read-only {at}", "read-only", at) for at in ("tmp", "home")]
    return found


def spread(most: int, number: int) -> list[int]:
    """So many numbers from 1 on that are less than `most`, at even distances."""
    return sorted({1 + (most - 1) * index // number for index in range(number)}) if most > 1 else [1]


Snapshot = dict[str, bytes | None]


def snapshot(folder: Path) -> Snapshot:
    """Every file's bytes, and the folders, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@dataclass(frozen=True)
class Whole:
    """
    What a run that lacks nothing leaves.

    Attributes:
        left: all that is in the folder then, what was there before included.
        same: the names of what two such runs leave the same; the others hold times or the name of the folder.
    """

    left: Snapshot
    same: set[str]


def falls_short(after: Snapshot, whole: Whole) -> str | None:
    """What is wrong about the folder after a command that ended well."""
    if missing := sorted(whole.left.keys() - after.keys()):
        return f"left without {', '.join(missing[:4])}"
    if changed := sorted(name for name in whole.same if after[name] != whole.left[name]):
        return f"changed {', '.join(changed[:4])}"
    lengths = {name: (len(after[name] or b""), len(content or b"")) for name, content in whole.left.items()}
    if short := sorted(name for name, (length, whole_length) in lengths.items() if length < 0.9 * whole_length):
        return f"wrote a part of {', '.join(short[:4])}"
    return None


def complaint(status: int, said: str, names: list[str]) -> str | None:
    """
    What is wrong about the end of a command that failed.

    Args:
        names: one of them, or what fits a pattern among them, is to be in its sentence; any sentence will do where
            there are none.
    """
    sentences = ERROR.findall(said)
    last = " ".join((said.strip().splitlines() or [""])[-1:])
    if noise := [one for one in NOISE if one in said]:
        return f"{noise[0]}: {last[:300]}"
    if status == -9:  # nobody but the worker sends that, where a try takes too long
        return f"hangs, or was ended by the system: {last[:300]}"
    if status != 1:
        return f"exit status {status}: {last[:300]}"
    if len(sentences) != 1:
        return f"{len(sentences)} sentences: {last[:300]}"
    if names and not any(name in sentences[0] or fnmatchcase(sentences[0], f"*{name}*") for name in names):
        return f"does not name the place: {sentences[0][:300]}"
    return None


def remains(before: Snapshot, after: Snapshot, whole: Snapshot, subject: Subject) -> str | None:
    """What is wrong about the folder after a command that failed."""
    if changed := [name for name, content in before.items() if name not in after or after[name] != content]:
        return f"changed {', '.join(changed[:4])}"
    new = {name for name in after.keys() - before.keys() if not fnmatchcase(name, subject.keeps)}
    if left := sorted(name for name in new if any(LEFTOVER.search(part) for part in name.split("/"))):
        return f"left {', '.join(left[:4])}"
    if not subject.words.__qualname__.startswith("job."):
        return f"left {', '.join(sorted(new)[:4])}" if new else None
    return half_checkpoint(after, whole)


def half_checkpoint(after: Snapshot, whole: Snapshot) -> str | None:
    """The checkpoint that has not all files of those of the whole run."""

    def of(found: Snapshot) -> dict[str, set[str]]:
        parts = [re.fullmatch(r"run/(checkpoint-\d+)/(.+)", name) for name in found]
        names: dict[str, set[str]] = {}
        for part in filter(None, parts):
            names.setdefault(part[1], set()).add(part[2])
        return names

    complete = set.union(*of(whole).values()) if of(whole) else set()
    for name, files in of(after).items():
        # One that was not saved to its end lacks the manifest, and is not gone on from.
        if (missing := sorted(complete - files)) and "manifest.json" in files:
            return f"left a half {name}, without {', '.join(missing[:3])}"
    return None
