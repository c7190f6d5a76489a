"""
Files that lie, drawn by hypothesis: a valid file of which bytes are changed, or values of what it holds, or mere
noise. A `Lie` is drawn without the file, in a few numbers, and told of it afterwards.
"""

import csv
import io
import json
import random
import sqlite3
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

DEEP, LONG_NUMBER = "@deep@", "@long number@"  # which `json.dumps` cannot write
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**12, 2**31, 2**63, -(10**30), 0.5, -0.5, 1e308, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), DEEP, LONG_NUMBER),
    *(
        "",
        " ",
        "0",
        "1",
        "none",
        "\0",
        "\ud800",
        "\ud83d",
        "é",
        "\u202e",
        "\x1b]52;c;cm0=\x07",
        "\x9b31m",
        "x" * 70_000,
    ),
    *("../x.safetensors", "/etc/hostname", "..", ".", "\\\\host\\x", "a/b", "model.safetensors", "{{", "{% raw", "%s"),
    *([], {}, [[]], [None], [1, 2], [0.1, "x"], ["a", "a"], [[1], [2, 3]], {"": None}, {"a": {"b": []}}, {"0": 0}),
    *({"type": "dict"}, {"content": 1}, [{"role": "user"}], [{"role": "user", "content": None}], 10**400),
)
YAML = (
    *(
        ".inf",
        "-.inf",
        ".nan",
        "0",
        "-1",
        "1e400",
        "9" * 5000,
        "0x1F",
        "0o17",
        "190:20:30",
        "1_000",
        "~",
        "|",
        ">",
        "=",
    ),
    *("2024-01-01", "2024-13-45", "2024-01-01 99:99:99", "0000-00-00", "!!timestamp x", "!!int abc", "!!float x"),
    *("!!binary x", "!!set {a}", "!!omap [a]", "!!pairs [a]", "!!map [a]", "!!seq {a: b}", "!!bool x", "!!null x"),
    *('!!python/object/apply:os.system ["true"]', "!x y", "[&a [*a]]", "&a [*a]", "*x", "{a: b}", "? x", "{[a]: b}"),
    *("[" * 3000, "{a: " * 3000, '"\\ud800"', '"\\x00"', "'", "yes", "off", "on", "no", "[yes, 1, null]", "<<: [1]"),
)
PIECES = tuple(
    text.encode("utf-8", "surrogatepass")
    for text in (
        *(
            '"',
            '""',
            "'",
            "\0",
            "\t",
            "\n",
            "\r",
            "\r\n",
            ";",
            "|",
            ",",
            "\ufeff",
            "\ud800",
            "=1+1",
            "\x1b[2J",
            "\u202e",
        ),
        *(
            "[" * 20_000,
            "{" * 500,
            "9" * 5000,
            "x" * 40_000,
            "-1",
            "1e999",
            "NaN",
            "null",
            "../",
            "😀",
            "\\ud800",
            "\\u0000",
        ),
    )
) + (b"\xff", b"\xff\xfe", b"\x80" * 9, b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x80", b"PK\x03\x04")
SQL = (
    *("DROP TABLE votes", "DROP TABLE comparison", "DELETE FROM comparison", "DELETE FROM votes"),
    *("UPDATE votes SET item = {value}", "UPDATE votes SET rater = {value}", "UPDATE votes SET time = {value}"),
    *("UPDATE comparison SET items = {value}", "UPDATE comparison SET seed = {value}"),
    *("UPDATE comparison SET a_sha256 = {value}", "INSERT INTO comparison SELECT * FROM comparison"),
    *("ALTER TABLE votes RENAME COLUMN winner TO w", "ALTER TABLE votes RENAME TO v", "PRAGMA user_version = 9"),
    *("UPDATE votes SET winner = {value}", "UPDATE votes SET left = {value}", "CREATE VIEW v AS SELECT * FROM votes"),
    "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = {value}",
)
SQL_VALUES = (
    "NULL",
    "''",
    "x'00ff'",
    "x'ff'",
    "-1",
    "9e999",
    "9223372036854775807",
    "'\x1b[2J'",
    "char(0)",
    "1.5",
    "'x'",
)


@dataclass(frozen=True)
class Lie:
    """
    One change, or several.

    Args:
        kind: how: "bytes", "values" or "noise".
        seed: of where each change is made, and of which kind.
        new: bytes or a value to put there.
        changes: how many there are.
    """

    kind: str
    seed: int
    new: object
    changes: int = 1


def lies() -> st.SearchStrategy[Lie]:
    """Any lie."""
    seeds, few = st.integers(0, 2**32), st.sampled_from([1, 1, 1, 2, 3])
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
    trees = st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    )
    pieces = st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=12))
    return st.one_of(
        st.builds(Lie, st.just("values"), seeds, st.one_of(st.sampled_from(VALUES), trees), few),
        st.builds(Lie, st.just("values"), seeds, st.sampled_from(VALUES), few),
        st.builds(Lie, st.just("bytes"), seeds, pieces, few),
        st.builds(Lie, st.just("noise"), seeds, st.one_of(st.binary(max_size=200), st.text(max_size=50).map(_encode))),
    )


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def tell(lie: Lie, content: bytes, form: str) -> bytes:
    """
    What becomes of a file's content.

    Args:
        form: what the file is: "json", "jsonl", "yaml", "csv", "sqlite", or else only bytes.
    """
    rng = random.Random(lie.seed)
    if lie.kind == "noise":
        return lie.new
    if lie.kind == "values" and form in FORMS:
        return FORMS[form](content, lie, rng)
    new = lie.new if isinstance(lie.new, bytes) else rng.choice(PIECES)
    for _ in range(lie.changes):
        content = _change_bytes(content, new, rng)
    return content


def _change_bytes(content: bytes, new: bytes, rng: random.Random) -> bytes:
    # Most of a large file is weights, whose bytes mean little; its ends tell what it is.
    share = rng.random() ** (1 if len(content) < 2000 else rng.choice([1, 4, 12]))
    at = int((1 - share if rng.random() < 0.2 else share) * len(content))
    length = min(rng.randint(1, 64), max(1, len(content)))
    kind = rng.choice(["replace", "insert", "remove", "repeat", "cut", "bit", "digit"])
    if kind == "bit" and content:
        at = min(at, len(content) - 1)
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == "digit" and (digits := [i for i, byte in enumerate(content[:100_000]) if 48 <= byte <= 57]):
        at = rng.choice(digits)
        return content[:at] + rng.choice([b"-1", b"99999999999999", b"", b"0", b"1e9", b"9"]) + content[at + 1 :]
    return {
        "insert": content[:at] + new + content[at:],
        "remove": content[:at] + content[at + length :],
        "repeat": content[: at + length] + content[at:],
        "cut": content[:at],
    }.get(kind, content[:at] + new + content[at + len(new) :])


def _change_values(value, lie: Lie, rng: random.Random):
    """A value made of lists and dictionaries, of which some are replaced, dropped, renamed or doubled."""
    holder = [value]
    for _ in range(lie.changes):
        places = _places(holder)
        # Values of a short path decide more, and there are few of them.
        container, key = rng.choice(places[: rng.choice([len(places), 1 + len(places) // 4, 1 + len(places) // 20])])
        kind = rng.choice(["set", "set", "set", "set", "drop", "rename", "wrap", "swap"])
        if kind == "drop" and container is not holder:
            del container[key]
        elif kind == "rename" and isinstance(container, dict):
            container[str(lie.new)[:50] if rng.random() < 0.5 else key.upper()] = container.pop(key)
        elif kind == "wrap":
            container[key] = rng.choice([[container[key]], {"a": container[key]}, str(container[key])])
        elif kind == "swap":
            other, other_key = rng.choice(places)
            container[key] = deepcopy(other[other_key]) if other is not holder else deepcopy(lie.new)
        else:
            container[key] = deepcopy(lie.new)
    return holder[0]


def _places(holder: list) -> list:
    """Where each value stands: what holds it, and its key there; outer ones first."""
    found, waiting = [], [holder]
    while waiting:
        container = waiting.pop(0)
        for key in container if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _dumps(value) -> str:
    text = json.dumps(value)
    return text.replace(f'"{DEEP}"', "[" * 50_000 + "]" * 50_000).replace(f'"{LONG_NUMBER}"', "9" * 5000)


def _json(content: bytes, lie: Lie, rng: random.Random) -> bytes:
    changed = _dumps(_change_values(json.loads(content), lie, rng))
    if rng.random() < 0.02 and changed[:1] == "{":  # a key twice
        changed = f'{{"{rng.choice(list(json.loads(content)))}": {_dumps(lie.new)}, {changed[1:]}'
    return changed.encode()


def _jsonl(content: bytes, lie: Lie, rng: random.Random) -> bytes:
    changed = _change_values([json.loads(line) for line in content.splitlines()], lie, rng)
    rows = changed if isinstance(changed, list) else [changed]
    return "".join(_dumps(row) + "\n" for row in rows).encode()


def _yaml(content: bytes, lie: Lie, rng: random.Random) -> bytes:
    lines = content.decode().splitlines()
    for _ in range(lie.changes):
        at = rng.randrange(len(lines))
        key = lines[at].partition(":")[0]
        new = _dumps(lie.new) if rng.random() < 0.4 else rng.choice(YAML)
        lines[at] = rng.choice([f"{key}: {new}", f"{key}: {new}", f"{new}: {key}", f"{lines[at]}\n{key}: {new}", new])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _csv(content: bytes, lie: Lie, rng: random.Random) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    for _ in range(lie.changes):
        row = rng.choice(rows[: rng.choice([1, len(rows)])])
        if row:
            row[rng.randrange(len(row))] = lie.new if isinstance(lie.new, str) else str(lie.new)[:5000]
        if rng.random() < 0.2:
            row.append("more")
    text = io.StringIO(newline="")
    csv.writer(
        text, delimiter=rng.choice(",,,;\t|"), quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    ).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _sqlite(content: bytes, lie: Lie, rng: random.Random) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "votes.sqlite")
        path.write_bytes(content)
        connection = sqlite3.connect(path)
        for _ in range(lie.changes):
            try:
                connection.execute("PRAGMA ignore_check_constraints = 1")
                connection.executescript(rng.choice(SQL).format(value=rng.choice(SQL_VALUES)))
                connection.commit()
            except sqlite3.Error:  # what the statement before has made impossible
                pass
        connection.close()
        return path.read_bytes()


FORMS: dict[str, Callable[[bytes, Lie, random.Random], bytes]] = {
    "json": _json,
    "jsonl": _jsonl,
    "yaml": _yaml,
    "csv": _csv,
    "sqlite": _sqlite,
}
