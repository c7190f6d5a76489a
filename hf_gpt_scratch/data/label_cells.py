"""Labels as a table holds them: words, numbers, names of classes, lists, or several in a cell."""

import ast
import re
from collections.abc import Sequence

from ..utils.errors import InputError
from .tables import Table

SEPARATORS = ("|", ";", ",")  # of several labels in a cell


def read_labels(table: Table, column: str, multi_label: bool, notes: list[str]) -> list[list[str] | None]:
    """The labels of each row as names; `None` for an empty cell. A list of several may be empty."""
    values = [row.get(column) for row in table.rows]
    if any(isinstance(value, dict) for value in values):
        raise InputError(f"The column {column!r} of {table.source} holds objects; choose another with --label_column.")
    if multi_label:
        return _read_several(values, table, column, notes)
    if row := next((i + 1 for i, value in enumerate(values) if isinstance(value, list)), 0):
        raise InputError(f"{table.places[row - 1]}: {column!r} holds a list; give --multi_label.")
    return [[name] if (name := _name(value)) else None for value in values]


def order_names(found: set[str], class_names: Sequence[str]) -> list[str]:
    """The names in the data set's own order, numbers by their size, or else alphabetically."""
    if found <= set(class_names):
        return [name for name in class_names if name in found]
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in found):
        return sorted(found, key=lambda name: (int(name), name))
    return sorted(found)


def marks_unlabelled(names: set[str]) -> bool:
    """Whether -1 is the Hub's mark for a text without a label: where 0 is a label, or the others are words."""
    return "-1" in names and ("0" in names or not all(re.fullmatch(r"-?\d+", name) for name in names))


def _read_several(values: list, table: Table, column: str, notes: list[str]) -> list[list[str] | None]:
    cells = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    if cells and all(cell.startswith("[") and cell.endswith("]") for cell in cells):
        values = [_parse_list(value, table.places[i], column) for i, value in enumerate(values)]
    elif separator := next((one for one in SEPARATORS if any(one in cell for cell in cells)), None):
        notes.append(f"Several labels in a cell of {column!r} are separated by {separator!r}.")
        values = [value.split(separator) if isinstance(value, str) and value.strip() else value for value in values]
    for value, place in zip(values, table.places):
        if isinstance(value, list) and any(isinstance(one, list | dict | tuple | set) for one in value):
            raise InputError(f"{place}: {column!r} must hold a list of labels' names, and not of lists or objects.")
    lists = [value for value in values if isinstance(value, list)]
    if lists and {len(one) for one in lists} == {len(lists[0])} and all({*one} == {0, 1} for one in lists):
        raise InputError(
            f"The column {column!r} of {table.source} holds rows of 0 and 1; give lists of labels' names."
        )
    several = [value if isinstance(value, list) else [value] if _name(value) else None for value in values]
    return [one and list(dict.fromkeys(name for value in one if (name := _name(value)))) for one in several]


def _parse_list(cell, place: str, column: str) -> list | None:
    """A list as Python prints it, which is what pandas writes into a CSV file."""
    try:
        return list(ast.literal_eval(cell.strip())) if cell and cell.strip() else None
    except (AttributeError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise InputError(f"{place}: {column!r} is not a list of labels.") from None


def _name(value) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(str(value).split())  # a name is one line
