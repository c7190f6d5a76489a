"""People's preferences between two models' answers: the pairs, the votes in SQLite, the statistics."""

import os
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from ..utils.errors import InputError, UsageError
from ..utils.files import read_json
from ..utils.provenance import sha256
from .intervals import bootstrap_mean, wilson
from .responses import MESSAGES, QUESTION, RESPONSE, read_pairs

CHOICES = ("left", "right", "tie", "both_bad")
POINTS = {"A": 1.0, "tie": 0.5, "both_bad": 0.5, "B": 0.0}  # what a vote adds to A's wins
SWAPPED = {"A": "B", "B": "A"}
VERDICTS = {"A": "A", "B": "B", "tie": "tie", "both_bad": "tie"}  # as a judge says it
DEFINITIONS = {
    "win_rate": "share of the votes that A wins, with ties and both_bad as half; its 95 % interval: percentiles of a"
    " bootstrap over the items, with all votes of an item drawn together; none where all items were voted alike",
    "left_share": "share of the votes for a side that went to the left one; far from 0.5, the raters prefer a side",
    "raters_alpha": "Krippendorff's alpha of A, B and tie, both_bad as a tie: 1 is full agreement, 0 that of chance;"
    " none without an item that two raters voted on, or where all such votes are the same",
    "raters_agreement": "share of the pairs of votes on the same item that are the same, averaged over the items",
    "judge_agreement": "share of an item's votes that are the judge's verdict, averaged over the items",
    "judge_agreement_without_ties": "the same of the votes and verdicts that are A or B",
    "judge_alpha": "Krippendorff's alpha of the judge and the raters' most frequent vote, a draw of votes as a tie",
}

SCHEMA = """
CREATE TABLE comparison (
    a_sha256 TEXT NOT NULL,
    b_sha256 TEXT NOT NULL,
    items INTEGER NOT NULL,
    seed INTEGER NOT NULL
);
CREATE TABLE votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rater TEXT NOT NULL,
    item INTEGER NOT NULL, -- row of A's file, from 0
    winner TEXT NOT NULL CHECK (winner IN ('A', 'B', 'tie', 'both_bad')),
    left TEXT NOT NULL CHECK (left IN ('A', 'B')), -- whose answer was shown there
    time TEXT NOT NULL, -- UTC, ISO 8601
    UNIQUE (rater, item)
);
"""


@dataclass(frozen=True)
class Pair:
    """
    A question and the two answers to it.

    Attributes:
        messages: of a question in a conversation, those before it and itself, whose text is the `instruction`.
    """

    instruction: str
    input: str
    a: str
    b: str
    messages: Sequence[dict[str, str]] = field(default=(), compare=False)


def load_pairs(a_path: str | os.PathLike, b_path: str | os.PathLike) -> list[Pair]:
    """The answers of two files to the same questions, in the order of the first; `InputError` as `read_pairs`."""
    pairs = read_pairs(a_path, b_path, needs_reference=False)
    return [Pair(a["instruction"], a["input"], a[RESPONSE], b[RESPONSE], a.get(MESSAGES, ())) for a, b in pairs]


def load_verdicts(path: str | os.PathLike, pairs: Sequence[Pair]) -> dict[int, str]:
    """
    What a judge said of the pairs, by number: A, B or tie, as the pairs name them, whichever file the judge read
    first; items whose winner is null have no verdict.

    Raises:
        InputError: when it is not the file of a pairwise judge, or judges a question or answers that are not among
            the pairs.
    """
    judged = read_json(path)
    items = judged.get("items") if isinstance(judged, dict) else None
    if not isinstance(items, list):
        raise InputError(f"{path} has no list 'items'; give the judge.json of `hf-gpt-scratch judge` with two files.")
    judged = []
    for position, item in enumerate(items, start=1):
        if not isinstance(item, dict) or item.get("winner", "") not in ("A", "B", "tie", None):
            raise InputError(f"Item {position} of {path} has no 'winner' that is A, B, tie or null.")
        texts = [item.get(name) for name in (*QUESTION, f"{RESPONSE}_a", f"{RESPONSE}_b")]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(
                f"Item {position} of {path} has no question and two answers: give the judge.json of two files."
            )
        judged.append((Pair(*texts), item["winner"]))
    swapped = [(replace(pair, a=pair.b, b=pair.a), SWAPPED.get(winner, winner)) for pair, winner in judged]
    numbers = defaultdict(list)
    for number, pair in enumerate(pairs):
        numbers[pair].append(number)
    verdicts = {}
    nearest = max(judged, swapped, key=lambda items: sum(pair in numbers for pair, _ in items))
    for position, (pair, winner) in enumerate(nearest, start=1):
        if not numbers[pair]:
            raise InputError(
                f"Item {position} of {path} judges a question or answers that are not in the comparison; give the"
                " judge.json of these files."
            )
        number = numbers[pair].pop(0)
        if winner:
            verdicts[number] = winner
    return verdicts


def rater_name(text: str | None) -> str:
    """
    A typed name in the form that votes are kept under: without case and extra spaces.

    Raises:
        InputError: when nothing, or more than 80 characters, is left.
    """
    name = " ".join((text or "").encode("utf-8", "replace").decode().split()).casefold()
    if not 1 <= len(name) <= 80:
        raise InputError("Type your name first (at most 80 characters).")
    return name


class Votes:
    """
    The votes of all raters on one comparison, in an SQLite file; every method opens and closes it, so that a vote is
    on disk when its method returns, and threads and processes may share the file.
    """

    def __init__(self, path: str | os.PathLike, a_path: str | os.PathLike, b_path: str | os.PathLike):
        """
        Raises:
            InputError: when the file is not there, is of another kind, or holds votes about other files.
        """
        self.path = Path(path)
        if self.path.is_dir():
            raise InputError(f"{path} is a folder, not a file of votes; choose another --output.")
        if not self.path.is_file():
            raise InputError(f"There is no file of votes {path}.")
        with self._open() as connection:
            self._require_ours(connection)
            known = connection.execute("SELECT a_sha256, b_sha256, items, seed FROM comparison").fetchall()
        if len(known) != 1:
            raise InputError(f"{path} is not a file of votes; choose another --output.")
        *hashes, self.items, self.seed = known[0]
        if type(self.items) is not int or type(self.seed) is not int:
            raise InputError(f"{path} is damaged; choose another --output.")
        if hashes != [sha256(a_path), sha256(b_path)]:
            raise InputError(
                f"{path} has votes on other files than {a_path} and {b_path}, in this order; choose another --output."
            )

    def _require_ours(self, connection: sqlite3.Connection) -> None:
        """
        Raises `InputError` unless a file holds our tables, each as we write it, and nothing else. Triggers, virtual
        tables, or another rule for what is there twice could change votes when we read and write.
        """
        held, ours = _objects(connection), _schema()
        others = held - ours - _schema("ANALYZE")  # whose tables some programs add
        if others:
            kind, name, *_ = min(others, key=lambda one: (one[0] == "index", str(one)))  # a table has indexes
            raise InputError(
                f"{self.path} is not a file of votes: its {kind} {name} is none that this package makes; choose"
                " another --output."
            )
        if not ours <= held:
            raise InputError(f"{self.path} is not a file of votes; choose another --output.")

    @classmethod
    def open_or_create(cls, path, a_path, b_path, items: int, seed: int = 0) -> "Votes":
        """
        The votes of `path` on the `items` pairs of two files, to be added to; a new file remembers `seed`.

        Raises:
            InputError: as the class does, or when the file was begun with another seed.
        """
        path = Path(path)
        if not path.is_dir():  # which the class refuses
            path.parent.mkdir(parents=True, exist_ok=True)
            with _connect(path, "rwc") as connection:
                connection.execute("BEGIN IMMEDIATE")  # of processes that find no votes yet, one begins them
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in SCHEMA.split(";"):
                        connection.execute(statement)
                    row = (sha256(a_path), sha256(b_path), items, seed)
                    connection.execute("INSERT INTO comparison VALUES (?, ?, ?, ?)", row)
        votes = cls(path, a_path, b_path)
        if votes.seed != seed:
            raise UsageError(f"The votes in {path} were started with --seed {votes.seed}, not {seed}; use that one.")
        return votes

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return _connect(self.path, "rw")  # a file that was deleted meanwhile is not made again

    def a_is_left(self, rater: str, item: int) -> bool:
        """Whether A's answer stands left: a coin that the seed, the rater and the item toss."""
        return random.Random(f"{self.seed}, {item}, {rater}").random() < 0.5

    def next_item(self, rater: str) -> int:
        """The first item without a vote of the rater; the number of items when all have one."""
        with self._open() as connection:
            return self._next_item(connection, rater)

    def _next_item(self, connection: sqlite3.Connection, rater: str) -> int:
        voted = {item for (item,) in connection.execute("SELECT item FROM votes WHERE rater = ?", (rater,))}
        return next((item for item in range(self.items) if item not in voted), self.items)

    def vote(self, rater: str, item: int, choice: str) -> bool:
        """
        Keeps a rater's choice, one of `CHOICES`, on an item; `False`, and nothing kept, unless it is the rater's next
        item: a second click, or a page that another one has overtaken.
        """
        left, right = ("A", "B") if self.a_is_left(rater, item) else ("B", "A")
        winner = {"left": left, "right": right, "tie": "tie", "both_bad": "both_bad"}[choice]
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")  # between the reading and the writing, no other vote
            if item != self._next_item(connection, rater) or item == self.items:
                return False
            connection.execute(
                "INSERT INTO votes (rater, item, winner, left, time) VALUES (?, ?, ?, ?, ?)",
                (rater, item, winner, left, datetime.now(UTC).isoformat(timespec="seconds")),
            )
        return True

    def undo(self, rater: str, item: int) -> bool:
        """Takes the rater's latest vote back; `False`, and nothing changed, unless `item` is the rater's next one."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            if item != self._next_item(connection, rater):
                return False
            latest = "SELECT max(id) FROM votes WHERE rater = ?"
            return connection.execute(f"DELETE FROM votes WHERE id = ({latest})", (rater,)).rowcount == 1

    def all(self) -> list[tuple[str, int, str, str]]:
        """Every vote as (rater, item, winner, left), in the order in which they were given."""
        with self._open() as connection:
            votes = connection.execute("SELECT rater, item, winner, left FROM votes ORDER BY id").fetchall()
        if not all(self._is_vote(*vote) for vote in votes):
            raise InputError(f"{self.path} has votes that are none of the page's; choose another --output.")
        return votes

    def _is_vote(self, rater, item, winner, left) -> bool:
        """SQLite keeps the rules of a table only where it is told to."""
        in_range = type(item) is int and 0 <= item < self.items
        return isinstance(rater, str) and in_range and winner in POINTS and left in ("A", "B")


@contextmanager
def _connect(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """A connection whose changes are on disk after the block, or undone when it raises."""
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection, connection:
            yield connection
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{path} cannot be read or written as a file of votes ({error}).") from None


def _schema(more: str = "") -> set[tuple]:
    """What a file of votes holds, and what `more` SQL adds; all versions of this package have made the same."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA + more)
        return _objects(connection)


def _objects(connection: sqlite3.Connection) -> set[tuple]:
    """Tables, indexes and all else in a file; also under SQLite's own names, which a file can give to anything."""
    return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def statistics(votes: Sequence[tuple[str, int, str, str]], seed: int = 0) -> dict:
    """
    The numbers of `DEFINITIONS` that need no judge, and the counts, of votes (rater, item, winner, left).

    Raises:
        InputError: when there is no vote.
    """
    if not votes:
        raise InputError("There are no votes yet.")
    by_item = _by_item(votes)
    winners = Counter(winner for _, _, winner, _ in votes)
    points = [[POINTS[winner] for winner in item] for item in by_item.values()]
    sides = [winner == left for _, _, winner, left in votes if winner in ("A", "B")]
    verdicts = [[VERDICTS[winner] for winner in item] for item in by_item.values()]
    return {
        "votes": len(votes),
        "items_voted_on": len(by_item),
        "raters": dict(Counter(rater for rater, *_ in votes)),
        "wins_A": winners["A"],
        "wins_B": winners["B"],
        "ties": winners["tie"],
        "both_bad": winners["both_bad"],
        **mean_with_interval("win_rate", points, seed),
        "left_share": sum(sides) / len(sides) if sides else None,
        "raters_alpha": krippendorff_alpha(verdicts),
        "raters_agreement": _mean([_same_pairs(item) for item in verdicts if len(item) > 1]),
    }


def judge_statistics(votes: Sequence[tuple[str, int, str, str]], verdicts: dict[int, str], seed: int = 0) -> dict:
    """The numbers of `DEFINITIONS` about the judge, whose verdict on an item is A, B or tie."""
    by_item = {
        item: [VERDICTS[winner] for winner in winners] for item, winners in _by_item(votes).items() if item in verdicts
    }
    same = [[_share(given, verdicts[item])] for item, given in by_item.items()]
    decided = {item: [vote for vote in given if vote != "tie"] for item, given in by_item.items()}
    same_decided = [
        [_share(given, verdicts[item])] for item, given in decided.items() if given and verdicts[item] != "tie"
    ]
    return {
        "judged_items_voted_on": len(by_item),
        **mean_with_interval("judge_agreement", same, seed),
        **mean_with_interval("judge_agreement_without_ties", same_decided, seed),
        "judge_alpha": krippendorff_alpha([[verdicts[item], _most_frequent(by_item[item])] for item in by_item]),
    }


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> float | None:
    """
    Krippendorff's alpha of nominal values, each unit given by the values that its raters assigned; a rater's missing
    value is omitted. `None` where nothing is paired, or all paired values are the same.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C.
    """
    coincidences = Counter()
    for values in units:
        counts = Counter(values)
        for first, n in counts.items():
            for second, m in counts.items():
                if len(values) > 1:
                    coincidences[first, second] += n * (m - (first == second)) / (len(values) - 1)
    totals = Counter()
    for (first, _), count in coincidences.items():
        totals[first] += count
    n = sum(totals.values())
    expected = n * n - sum(total * total for total in totals.values())
    observed = sum(count for (first, second), count in coincidences.items() if first != second)
    return 1 - (n - 1) * observed / expected if expected else None


def _by_item(votes) -> dict[int, list[str]]:
    by_item = defaultdict(list)
    for _, item, winner, _ in votes:
        by_item[item].append(winner)
    return dict(by_item)


def mean_with_interval(name: str, clusters: list[list[float]], seed: int) -> dict:
    """
    The mean of all values, and its interval by resampling clusters. Where all are alike, nothing can be resampled:
    then it is that of a share among so many clusters.
    """
    mean = _mean([value for values in clusters for value in values])
    if len({_mean(values) for values in clusters}) > 1:
        return {name: mean, f"{name}_interval": bootstrap_mean(clusters, seed)}
    return {name: mean, f"{name}_interval": wilson(mean * len(clusters), len(clusters)) if clusters else None}


def _share(values: Sequence[str], value: str) -> float:
    return sum(other == value for other in values) / len(values)


def _same_pairs(values: Sequence[str]) -> float:
    n = len(values)
    return sum(count * (count - 1) for count in Counter(values).values()) / (n * (n - 1))


def _most_frequent(values: Sequence[str]) -> str:
    (first, count), *others = Counter(values).most_common()
    return "tie" if others and others[0][1] == count else first


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
