"""Rows of a table written into a file: CSV, TSV, JSON lines or Parquet, by its name's suffix."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..utils.errors import InputError, UsageError, one_line
from ..utils.files import write_whole

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


def require_writable(path: str | os.PathLike, source: str | os.PathLike, option: str = "--output") -> None:
    """
    Raises `UsageError` when rows of `source` could not be written into `path`: it is `source` itself, of no kind that
    `write_rows` writes, or in no folder.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{option} takes a file that ends in {', '.join(SUFFIXES)}, not {path.name!r}.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for {option}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for {option}; make it first.")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UsageError(f"{option} would overwrite {source}; choose another name.")


def write_rows(
    path: str | os.PathLike,
    rows: Sequence[dict],
    columns: Sequence[str],
    delimiter: str = ",",
    encoding: str = "utf-8",
    line_end: str = "\n",
) -> None:
    """
    Writes the rows in order, whole or not at all. A value that a row lacks is empty, in JSON absent.

    Args:
        delimiter: of CSV; that of TSV is the tab.
        encoding: of the table that the rows are from. All is written as UTF-8; CSV and TSV with a byte order mark
            where this is another, since spreadsheets tell UTF-8 by it.
        line_end: of CSV and TSV.

    Raises:
        InputError: when a column of a Parquet file would have values of different types.
    """
    kind = Path(path).suffix.lower()
    if kind == ".parquet":
        content = _parquet(rows, columns)
    elif kind in (".csv", ".tsv"):
        mark = "" if encoding == "utf-8" else "\ufeff"
        content = mark + _delimited(rows, columns, "\t" if kind == ".tsv" else delimiter, line_end)
    elif kind == ".json":
        content = json.dumps(list(rows), indent=2, ensure_ascii=False, default=str) + "\n"
    else:
        content = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    # Half a character (a lone surrogate) becomes its escape, which JSON reads back
    write_whole(path, content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def _delimited(rows: Sequence[dict], columns: Sequence[str], delimiter: str, line_end: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value):
    """Lists and objects, which have no form of their own there, as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def _parquet(rows: Sequence[dict], columns: Sequence[str]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    content = io.BytesIO()
    for column in columns:
        try:
            pyarrow.array([row.get(column) for row in rows])
        except (pyarrow.ArrowException, OverflowError) as error:
            raise InputError(
                f"The column {column!r} cannot be written as Parquet ({one_line(error)}); write .csv or .jsonl."
            ) from None
    table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()
