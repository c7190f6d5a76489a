"""Which columns of a table hold the texts and their labels: named by the user, or found out where unmistakable."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ..utils.errors import InputError
from ..utils.files import read_json_object
from .delimited import DELIMITERS, LABEL_NAMES, TEXT_NAMES, decode
from .tables import KINDS, Table, read_table

OTHERS = ("id", "idx", "index", "no", "nr", "number", "split")  # never text or label
MOST_LABELS = 1000
SAMPLE = 1000  # rows that tell what a column holds
UNKNOWN = MappingProxyType({})  # of the columns that a classifier was trained on


def columns_trained_on(folder: str | os.PathLike) -> dict:
    """The `text_column` and `label_column` of a classifier's training, as far as its metrics.json is there."""
    try:
        data = read_json_object(Path(folder) / "metrics.json").get("data")
    except InputError:
        return {}
    return data if isinstance(data, dict) else {}


def find_text_column(
    table: Table,
    text_column: str | None = None,
    trained_on: Mapping = UNKNOWN,
    remedy: str = "say so with --text_column",
) -> str:
    """
    The column of the texts: the one that was named, or that the classifier was trained on, or the one of a usual name.

    Args:
        trained_on: that of `columns_trained_on`, whose `label_column` is never that of the texts.
        remedy: what to do where it is not clear.

    Raises:
        InputError: when there is no such column, or it is not clear which it is.
    """
    if text_column is not None:
        return _require(table, text_column, "text_column")
    if trained_on.get("text_column") in table.columns:
        return trained_on["text_column"]
    columns = _candidates(table, [trained_on.get("label_column")])
    found = _usual_texts(table, columns)
    if found is None and len(table.columns) == 1 and table.has_header:
        raise InputError(
            f"The first row of {table.source} is {_listed(table)}, which may be a text; write `text` above the texts."
        )
    if found is None:
        likely = [one for one in columns if one.strip().lower() not in LABEL_NAMES]
        raise InputError(_unclear(table, "texts", remedy, likely))
    return found


def find_columns(table: Table, text_column: str | None, label_column: str | None) -> tuple[str, str, list[str]]:
    """
    The columns of the texts and of their labels, and a note where one was found out: by a usual name, or as the one of
    two that has few different values.

    Raises:
        InputError: when there is no such column, or it is not clear which it is.
    """
    text = _require(table, text_column, "text_column") if text_column is not None else None
    label = _require(table, label_column, "label_column") if label_column is not None else None
    columns = _candidates(table, ())
    text = text or _usual_texts(table, [one for one in columns if one != label])
    label = label or _usual([one for one in columns if one != text], LABEL_NAMES)
    left = [one for one in columns if one not in (text, label)]
    if label is not None:
        left = [one for one in left if not _is_of_ids(table, one)] or left
    if text is None and label is None and len(left) == 2:
        text, label = _by_their_values(table, left)
    elif (text is None) != (label is None) and len(left) == 1:
        text, label = text or left[0], label or left[0]
    if len(table.columns) == 1 and any(one in table.columns[0] for one in DELIMITERS):
        raise InputError(
            f"The rows of {table.source} do not have as many cells as its first row, {_listed(table)}; put text that"
            " holds the separator in quotation marks."
        )
    if text is None or label is None:
        missing = "labels" if text else "texts" if label else "texts and which the labels"
        rest = [one for one in columns if one not in (text, label)]
        options = "--label_column" if text else "--text_column" if label else "--text_column and --label_column"
        raise InputError(_unclear(table, missing, f"say so with {options}", rest))
    if text == label:
        raise InputError(f"The texts and the labels of {table.source} cannot both be in {text!r}; name two columns.")
    if text_column is None or label_column is None:
        return text, label, [f"The texts are in the column {text!r}, the labels in {label!r}."]
    return text, label, []


def read_texts(path: str | os.PathLike, text_column: str | None = None, **rule) -> list[str]:
    """
    The texts of a file, in order, empty ones included: those in the column of texts of a table (CSV, TSV, JSON, JSON
    lines, Parquet), or else a text a line. `rule` are the other arguments of `find_text_column`.

    Raises:
        InputError: when the file cannot be read, or a row or the column is wrong, naming it.
    """
    path = Path(path)
    if path.suffix.lower() not in KINDS and text_column is None:
        if not path.is_file():
            raise InputError(f"The file {path} does not exist.")
        # Not splitlines(), which would cut texts at form feeds and at Unicode's own line ends.
        lines = decode(path.read_bytes(), path)[0].replace("\r\n", "\n").removesuffix("\n").split("\n")
        return lines if any(line.strip() for line in lines) else []
    table = read_table(path)
    column = find_text_column(table, text_column, **rule)
    return [as_text(row.get(column), table.places[i], column) for i, row in enumerate(table.rows)]


def as_text(value, place: str, column: str) -> str:
    """A cell as text; raises `InputError` for a list or an object."""
    if isinstance(value, list | dict | bytes):
        raise InputError(f"{place}: {column!r} must be text, not a {type(value).__name__}; choose another column.")
    return "" if value is None or value != value else str(value)  # NaN differs from itself


def _candidates(table: Table, taken: Sequence[str]) -> list[str]:
    nameless = [f"column {number}" for number in range(1, len(table.columns) + 1)] if table.has_header else []
    return [one for one in table.columns if one.lower() not in OTHERS and one not in nameless and one not in taken]


def _usual(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The one column of a usual name; the first name wins, two of the others are unclear."""
    found = [one for one in columns if one.strip().lower() in names]
    best = [one for one in found if one.strip().lower() == names[0]]
    return best[0] if len(best) == 1 else found[0] if len(found) == 1 else None


def _usual_texts(table: Table, columns: Sequence[str]) -> str | None:
    """
    The one column of a usual name of texts. Beside another such column, one of bare ids or numbers, or of few
    different values, is none; alone it is none where a column of another name may hold texts.
    """
    found = [one for one in columns if one.strip().lower() in TEXT_NAMES]
    texts = [one for one in found if not _is_of_ids(table, one)]
    if not texts and any(one.strip().lower() not in LABEL_NAMES and not _is_of_ids(table, one) for one in columns):
        return None
    if len(texts) > 1:
        texts = [one for one in texts if not _has_few_values(table, one)] or texts
    return _usual(texts or found, TEXT_NAMES)


def _sample(table: Table, column: str) -> list[str]:
    """The first values of a column, without empty ones."""
    values = (str(row.get(column)).strip() for row in table.rows[:SAMPLE] if row.get(column) is not None)
    return [value for value in values if value]


def _is_of_ids(table: Table, column: str) -> bool:
    """Whether the values are numbers, dates or bare ids such as T-1042: one word with a digit, or no letters."""
    values = _sample(table, column)
    ids = [
        one for one in values if re.search(r"\d", one) and (len(one.split()) == 1 or not re.search(r"[^\W\d_]", one))
    ]
    return bool(values) and len(ids) >= 0.95 * len(values)


def _has_few_values(table: Table, column: str) -> bool:
    """Whether a value stands in ten rows on average, as no text does."""
    values = _sample(table, column)
    return 10 * len(set(values)) <= len(values)


def _by_their_values(table: Table, columns: Sequence[str]) -> tuple[str | None, str | None]:
    """Text and label of two columns, where one has few different values and the other many."""
    values = {one: [str(row.get(one)) for row in table.rows] for one in columns}
    different = {one: len(set(values[one])) for one in columns}
    label, text = sorted(columns, key=different.get)
    if different[label] > min(MOST_LABELS, len(table.rows) // 2) or different[text] < 2 * different[label]:
        return None, None
    if table.has_header and label in values[label]:
        raise InputError(
            f"The first row of {table.source} seems to be data ({label!r} is in its column again); write a header such"
            " as text,label above it."
        )
    return text, label


def _require(table: Table, column: str, option: str) -> str:
    if column not in table.columns:
        raise InputError(
            f"{table.source} has no column {column!r}; its columns are {_listed(table)}: choose with --{option}."
        )
    return column


def _unclear(table: Table, what: str, remedy: str, columns: Sequence[str]) -> str:
    """The sentence that offers the columns which may be meant, or all where none is left."""
    offered = _listed(table, columns or table.columns)
    return f"It is not clear which column of {table.source} holds the {what}: {offered}; {remedy}."


def _listed(table: Table, columns: Sequence[str] | None = None) -> str:
    columns = table.columns if columns is None else columns
    names = [one if len(one) < 40 else f"{one[:40]}..." for one in columns[:20]]
    return ", ".join(map(repr, names)) + ("..." if len(columns) > 20 else "")
