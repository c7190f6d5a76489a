"""People's votes as a preference set: rows of prompt, chosen and rejected, for `train prefer` and TRL."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..prompts import user_message
from ..utils.errors import InputError
from ..utils.files import write_whole
from .preference import Pair

FIELDS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Preferences:
    """
    The rows of a preference set, and how many questions it has none of.

    Attributes:
        rows: in TRL's conversational form: each of the `FIELDS` is a list of messages.
        disputed: of the rows, those that some votes contradict; most votes decide.
        repeated: questions that came more than once with the same two answers; their votes were put together.
        unvoted, ties, drawn, unusable: questions that are left out: without a vote; with ties and "both bad" only;
            with as many votes for one answer as for the other; with an answer that is empty, or both the same.
    """

    rows: list[dict]
    disputed: int = 0
    repeated: int = 0
    unvoted: int = 0
    ties: int = 0
    drawn: int = 0
    unusable: int = 0

    def __str__(self) -> str:
        """What was left out, and why, in a sentence; "" where nothing was."""
        counts = {
            "without a vote": self.unvoted,
            "with ties alone": self.ties,
            "with as many votes for one answer as for the other": self.drawn,
            "with an empty answer or two equal ones": self.unusable,
        }
        left_out = [f"{count} {why}" for why, count in counts.items() if count]
        told = [f"Left out: {', '.join(left_out)}."] if left_out else []
        if self.disputed:
            told.append(f"In {self.disputed} rows the raters disagreed, and most votes decided.")
        if self.repeated:
            told.append(f"The votes of {self.repeated} repeated questions were put together.")
        return " ".join(told)


def preferences(pairs: Sequence[Pair], votes: Sequence[tuple[str, int, str, str]]) -> Preferences:
    """
    The preference set of the votes (rater, item, winner, left) on the pairs: one row for a question and its two
    answers, whichever file each stood in, however often it was asked.

    Raises:
        InputError: where no vote prefers one answer to another.
    """
    winners = defaultdict(list)
    for _, item, winner, _ in votes:
        winners[item].append(winner)
    asked: dict[tuple, Counter] = {}
    prompts, repeated = {}, 0
    for item, pair in enumerate(pairs):
        key = (user_message(pair.instruction, pair.input), *sorted((pair.a, pair.b)))
        repeated += key in asked
        prompts[key[0]] = list(pair.messages) or [{"role": "user", "content": key[0]}]
        # A tie, or both bad, is a vote for no answer
        asked.setdefault(key, Counter()).update({"A": pair.a, "B": pair.b}.get(winner) for winner in winners[item])
    rows, left_out, disputed = [], Counter(), 0
    for (question, first, second), counts in asked.items():
        if not first.strip() or not second.strip() or first == second:
            left_out["unusable"] += 1
        elif not counts:
            left_out["unvoted"] += 1
        elif counts[first] == counts[second]:
            left_out["drawn" if counts[first] else "ties"] += 1
        else:
            chosen, rejected = sorted((first, second), key=counts.__getitem__, reverse=True)
            disputed += counts[rejected] > 0
            rows.append(_row(prompts[question], chosen, rejected))
    found = Preferences(rows, disputed, repeated, **left_out)
    if not rows:
        raise InputError(f"No vote prefers one answer to the other, so there is nothing to export. {found}".strip())
    return found


def _row(prompt: list[dict], chosen: str, rejected: str) -> dict:
    answers = [[{"role": "assistant", "content": text}] for text in (chosen, rejected)]
    return dict(zip(FIELDS, (prompt, *answers)))


def require_own_export(path: str | os.PathLike) -> None:
    """Raises `InputError` where the export would replace a file that is no preference set, or has no folder."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} to write {path.name} into.")
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as lines:
            is_own = tuple(json.loads(lines.readline())) == FIELDS
    except (OSError, ValueError, TypeError):
        is_own = False
    if not is_own:
        raise InputError(f"The preferences would replace {path}, which holds something else; choose another name.")


def write_preferences(path: str | os.PathLike, found: Preferences) -> None:
    """Writes the rows as JSON lines, whole or not at all; raises as `require_own_export`."""
    require_own_export(path)
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows))
