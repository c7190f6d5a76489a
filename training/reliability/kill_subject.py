"""What is killed: a job or a command, what it starts from, and how one sees that nothing is lost."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Words = Callable[[Path], Sequence[str]]


def nothing(folder: Path) -> None:
    """Makes nothing."""


@dataclass(frozen=True)
class Subject:
    """
    Attributes:
        name: in the table.
        words: of the command behind `hf-gpt-scratch`, which runs in the folder of a try; given `inputs`.
        differs: given the folder of a run that nobody killed and that of a try, both after the command has ended: in
            what they differ, though they must not; nothing where they do not.
        prepare: puts into the folder of a try, which is new, what the command is to find there.
        inputs: makes what all tries read, in a folder of their own.
        modules: what it imports besides torch and transformers, so that a try does not wait for that.
        run: runs the words; by default the command `hf-gpt-scratch`.
        done: what a command says that refuses to begin, as all is there: it was killed after its last step.
        alone: whether the command's own process alone is killed: those that it has started are to end by themselves,
            and are no trouble for the next one. Else they are killed with it.
    """

    name: str
    words: Words
    differs: Callable[[Path, Path], list[str]]
    prepare: Callable[[Path], None] = nothing
    inputs: Callable[[Path], None] = nothing
    modules: tuple[str, ...] = ()
    run: Callable[[Sequence[str]], int] | None = None
    done: str | None = None
    alone: bool = False


def bytes_differ(whole: Path, tried: Path, ignored: Callable[[str], bool] = lambda name: False) -> list[str]:
    """The names of files that are in one folder only, or not the same to the byte."""
    names = [{path.relative_to(one).as_posix() for path in one.rglob("*") if path.is_file()} for one in (whole, tried)]
    both = sorted(name for name in names[0] | names[1] if not ignored(name))
    return [
        name
        for name in both
        if name not in names[0] & names[1] or (whole / name).read_bytes() != (tried / name).read_bytes()
    ]


def json_differs(whole: Path, tried: Path, ignored: Sequence[str]) -> list[str]:
    """Where two JSON files differ, but for what is under a key that is `ignored`, as `a.b.0`."""
    found: list[str] = []

    def compare(one, other, where: str) -> None:
        if isinstance(one, dict) and isinstance(other, dict):
            for key in sorted(one.keys() | other.keys()):
                if key not in ignored:
                    compare(one.get(key), other.get(key), f"{where}.{key}" if where else key)
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            for number, pair in enumerate(zip(one, other)):
                compare(*pair, f"{where}.{number}")
        elif one != other and not (one != one and other != other):  # NaN is NaN
            found.append(where)

    compare(json.loads(whole.read_text(encoding="utf-8")), json.loads(tried.read_text(encoding="utf-8")), "")
    return [f"{tried.name}: {where}" for where in found]
