"""The findings of a folder's checks, and how they are shown."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..utils.errors import InputError


@dataclass(frozen=True)
class Finding:
    """
    The outcome of one check: `status` is "ok", "failed" or "skipped"; `value` is the number that it measured, `more`
    what is shown below the table, such as a difference.
    """

    name: str
    status: str
    detail: str
    value: float | None = None
    more: str = ""


class CheckFailed(InputError):
    """A check failed, and the message says why."""


def compared(difference: float) -> str:
    """How far logits are from others, as the middle of a sentence."""
    return f"differ by at most {difference:.1e} from" if difference else "are the same as"


def find(name: str, examine: Callable[[], str]) -> Finding:
    """The finding of `examine`, which returns the detail, or raises `InputError`."""
    try:
        return Finding(name, "ok", examine())
    except InputError as failure:
        return Finding(name, "failed", str(failure).rstrip("."))


def table(findings: list[Finding]) -> str:
    """A line for each finding, coloured in a terminal, and below them what more there is to show."""
    colours = {"ok": "\033[32m", "failed": "\033[31m", "skipped": "\033[33m"}
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        status = f"{finding.status:8}"
        if coloured:
            status = f"{colours[finding.status]}{status}\033[0m"
        lines.append(f"{finding.name:{width}}  {status}  {finding.detail}")
    return "\n".join([*lines, *(f"\n{finding.more}" for finding in findings if finding.more)])


def summary(findings: list[Finding], folder: Path) -> str:
    """How many checks passed, after a line for each one that did not, or that left files out."""
    passed = sum(finding.status == "ok" for finding in findings)
    line = f"{passed} of {len(findings)} checks passed (`hf-gpt-scratch check {folder}` lists them)."
    shown = [finding for finding in findings if finding.status != "ok" or "not uploaded" in finding.detail]
    return f"{table(shown)}\n{line}" if shown else line


def require(findings: list[Finding], folder: Path, are_shown: bool = True) -> None:
    """Raises `InputError` when a check failed; it says what failed, unless the findings `are_shown` already."""
    failed = [finding for finding in findings if finding.status == "failed"]
    if not failed:
        return
    if are_shown:
        raise InputError(f"{len(failed)} of {len(findings)} checks of {folder} failed; see above what to do.")
    reasons = "; ".join(f"{one.name}: {one.detail}" for one in failed)
    raise InputError(f"{len(failed)} of {len(findings)} checks of {folder} failed ({reasons}).")
