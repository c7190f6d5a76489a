"""
Rows of a table, whatever file holds them: CSV and other delimited text, JSON, JSON lines, Parquet, a folder of files
of one of these kinds, or a Hub data set. What had to be found out about a file is said in notes.
"""

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..utils.errors import InputError, UsageError, damage_told, one_line
from ..utils.provenance import sha256
from .delimited import decode, parse_delimited

if TYPE_CHECKING:
    from datasets import Dataset

KINDS = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".json": "JSON",
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".parquet": "Parquet",
}
# By their first bytes, files of other kinds, and what to do about them.
NO_TEXT_FILES = {
    b"PK\x03\x04": "a zip or Excel file; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save it as CSV",
    b"\x1f\x8b": "a gzip file; unpack it",
    b"%PDF": "a PDF file; save its table as CSV",
}
OFFICE = (".xlsx", ".xls", ".ods", ".docx", ".doc", ".pdf")
NO_DETAILS = MappingProxyType({})
SHOWN = 3  # rows named of each fault
TOO_WIDE = "with more cells than the header"  # bad rows
NO_TEXT = "without text"
HALF_CHARACTER = "with half a character (a lone surrogate)"
ROW_KEYS = ("messages", "conversations")  # lists that belong to a row
METADATA = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
)  # of data sets saved by datasets
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass
class Table:
    """
    Rows, of which `places[i]` says where row i stands ("tickets.csv, row 3"), as a spreadsheet counts where there is a
    header. `faults` says of a row what is wrong with it, where the reader was told to keep such rows. `class_names`
    are the names of a column of ClassLabel, in order, which its rows have in place of numbers. `splits[i]` is the part
    that row i was in, where the files of a folder or the data set say it. `delimiter`, `encoding` and `line_end`
    are those of delimited text.
    """

    rows: list[dict]
    columns: list[str]
    source: str
    sha256: str
    places: list[str]
    notes: list[str] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    splits: list[str] | None = None
    has_header: bool = True
    delimiter: str = ","
    encoding: str = "utf-8"
    line_end: str = "\n"


def read_table(
    data_file: str | os.PathLike | None = None,
    dataset_name: str | None = None,
    *,
    keep_faulty: bool = False,
    all_splits: bool = False,
) -> Table:
    """
    The rows of a file, a folder of files or a Hub data set. Cells of delimited text are `str`, never missing; other
    values have their type, and a key that a row lacks is not in its dictionary.

    Args:
        keep_faulty: put a row with more cells than the header into `faults` instead of raising.
        all_splits: of a Hub data set take all splits, named in `Table.splits`, and not the training split alone.

    Raises:
        InputError: when the data is missing or cannot be read, naming the file and, where it is one, the row.
    """
    if bool(data_file) == bool(dataset_name):
        raise UsageError(f"Give --data_file or --dataset_name{', not both' if data_file else ''}.")
    if dataset_name:
        table = _from_hub(dataset_name, all_splits)
    elif Path(data_file).is_dir():
        table = _from_folder(Path(data_file))
    else:
        table = _from_file(Path(data_file))
    if table.faults and not keep_faulty:
        row, fault = next(iter(table.faults.items()))
        raise InputError(f"{table.places[row]}: {fault}; put text that holds the separator in quotation marks.")
    if not table.rows:
        raise InputError(f"{table.source} has no rows.")
    return table


def describe_faults(table: Table, faults: Mapping[int, str], details: Mapping[int, str] = NO_DETAILS) -> str:
    """
    What is wrong with how many rows, and which, as the beginning of a sentence. `faults` says what is wrong with a row
    by its index, `details` more of some.
    """
    rows, kinds = defaultdict(list), []
    for i in sorted(faults):
        place = table.places[i].removeprefix(f"{Path(table.source).name}, ")
        rows[faults[i]].append(f"{place}: {details[i]}" if i in details else place)
    for fault, places in rows.items():
        more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
        kinds.append(f"{len(places):,} {fault} ({', '.join(places[:SHOWN])}{more})")
    are = "is" if len(faults) == 1 else "are"
    return f"{len(faults):,} of {len(table.rows):,} rows of {table.source} {are} bad: {'; '.join(kinds)}"


def _from_file(path: Path) -> Table:
    if not path.exists():
        raise InputError(f"The data file {path} does not exist.")
    content = path.read_bytes()
    require_text(path, content)
    kind = KINDS.get(path.suffix.lower()) or _kind_of(content)
    table = {"CSV": _from_delimited, "JSON": _from_json, "Parquet": _from_parquet}[kind](path, content)
    table.sha256 = hashlib.sha256(content).hexdigest()
    return table


def require_text(path: Path, start: bytes, is_table: bool = True) -> None:
    """
    Raises `InputError` for a file that is empty, or that by its first bytes holds neither text nor Parquet.

    Args:
        is_table: whether it is to be read as a table, and not by a reader that knows zip files.
    """
    if not start:
        raise InputError(f"{path} is empty.")
    what = next((what for magic, what in NO_TEXT_FILES.items() if start.startswith(magic)), None)
    if what and (is_table or path.suffix.lower() in OFFICE):
        raise InputError(f"{path} is {what}.")


def _kind_of(content: bytes) -> str:
    """The kind of a file whose name does not tell it."""
    if content.startswith(b"PAR1"):
        return "Parquet"
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:2]
    return "JSON" if start[:1] == b"{" or start in (b"[{", b"[\n", b"[\r", b"[ ") else "CSV"


def _from_delimited(path: Path, content: bytes) -> Table:
    cells = parse_delimited(content, path)
    return Table(
        rows=[dict(zip(cells.columns, row)) for row in cells.rows],
        columns=cells.columns,
        source=str(path),
        sha256="",
        places=[f"{path.name}, row {number}" for number in cells.numbers],
        notes=cells.notes,
        faults=cells.faults,
        has_header=cells.has_header,
        delimiter=cells.delimiter,
        encoding=cells.encoding,
        line_end=cells.line_end,
    )


def _from_json(path: Path, content: bytes) -> Table:
    text, encoding = decode(content, path)
    notes = [] if encoding in ("utf-8", "utf-8-sig") else [f"{path.name} was read as {encoding}."]
    is_lines = path.suffix.lower() in (".jsonl", ".ndjson")
    if not is_lines:
        try:
            value = json.loads(text)
        except RecursionError:
            raise InputError(f"{path} is not a table: its values are nested too deep.") from None
        except ValueError as error:
            is_lines = str(error).startswith("Extra data") and text.lstrip().startswith("{")
            if not is_lines:
                raise InputError(f"{path} is not valid JSON ({one_line(error)}); give a list of objects.") from None
    if is_lines:
        numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        rows = [_parse_line(line, f"{path.name}, line {number}") for number, line in numbered]
        places = [f"{path.name}, line {number}" for number, _ in numbered]
    else:
        rows = _find_list(value, path, notes)
        places = [f"{path.name}, row {number}" for number in range(1, len(rows) + 1)]
    if rows and all(isinstance(row, str) for row in rows):
        rows = [{"text": row} for row in rows]
    for row, place in zip(rows, places):
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected an object with a key for each column, not a {type(row).__name__}.")
    return Table(rows, list(dict.fromkeys(key for row in rows for key in row)), str(path), "", places, notes)


def _parse_line(line: str, place: str):
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not a JSON object ({one_line(error)}).") from None


def _find_list(value, path: Path, notes: list[str]) -> list:
    """The rows of a JSON value: a list, the list of an object that holds one, or that object alone."""
    if isinstance(value, dict):
        lists = [key for key, held in value.items() if key not in ROW_KEYS and _is_list_of_objects(held)]
        if len(lists) > 1:
            raise InputError(
                f"{path} holds the lists {', '.join(map(repr, lists))}; give a file with the one to be read."
            )
        if not lists:
            return [value]
        notes.append(f"The rows of {path.name} are those of its key {lists[0]!r}.")
        return value[lists[0]]
    if not isinstance(value, list):
        raise InputError(f"{path} must hold a list of objects, not a {type(value).__name__}.")
    return value


def _is_list_of_objects(value) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(one, dict) for one in value)


def _from_parquet(path: Path, content: bytes) -> Table:
    import pyarrow.parquet
    from datasets import Dataset

    with damage_told(f"{path} is not a Parquet file that can be read ({{}})."):
        rows = Dataset(pyarrow.parquet.read_table(pyarrow.BufferReader(content)))
        return _from_datasets({None: rows}, str(path), path.name)


def files_below(folder: Path, kinds: Collection[str]) -> list[Path]:
    """The files of some kinds in a folder and those in it, sorted, but for what may not be listed or just vanishes."""
    found = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.suffix.lower() in kinds and path.is_file())


def tables_below(folder: Path) -> list[Path]:
    """The files in a folder that `read_table` reads."""
    return [
        path
        for path in files_below(folder, KINDS)
        if path.name not in METADATA
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _from_folder(folder: Path) -> Table:
    files = tables_below(folder)
    kinds = sorted({path.suffix.lower() for path in files})
    if not files:
        raise InputError(f"The folder {folder} holds no file of the kinds {', '.join(KINDS)}.")
    if len({KINDS[kind] for kind in kinds}) > 1:
        raise InputError(f"The folder {folder} holds files of the kinds {', '.join(kinds)}; leave those of one kind.")
    tables = [_from_file(path) for path in files]
    for path, table in zip(files, tables):
        if set(table.columns) != set(tables[0].columns):
            raise InputError(
                f"The columns of {path} are {', '.join(table.columns)}, and those of {files[0].name} are"
                f" {', '.join(tables[0].columns)}; files of one folder must have the same."
            )
    starts = [sum(len(table.rows) for table in tables[:i]) for i in range(len(tables))]
    parts = [SPLIT_NAMES.get(re.split(r"[-_.\d]", path.name.lower())[0]) for path in files]
    return Table(
        rows=[row for table in tables for row in table.rows],
        columns=tables[0].columns,
        source=str(folder),
        sha256=hashlib.sha256("".join(sha256(path) for path in files).encode()).hexdigest(),
        places=[place for table in tables for place in table.places],
        notes=[f"{folder} holds {len(files)} files."] * (len(files) > 1)
        + [note for table in tables for note in table.notes],
        faults={start + row: fault for start, table in zip(starts, tables) for row, fault in table.faults.items()},
        class_names=tables[0].class_names,
        splits=[part for part, table in zip(parts, tables) for _ in table.rows] if all(parts) else None,
        has_header=all(table.has_header for table in tables),
    )


def _from_hub(name: str, all_splits: bool) -> Table:
    from .download import rows_from_hub, splits_from_hub

    table = _from_datasets(splits_from_hub(name) if all_splits else {None: rows_from_hub(name)}, name, name)
    lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.rows)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogatepass"))
    table.sha256 = digest.hexdigest()
    return table


def _from_datasets(splits: dict[str | None, "Dataset"], source: str, name: str) -> Table:
    """The rows of splits, ClassLabel numbers as their names; -1, which stands for no label, as `None`."""
    first = next(iter(splits.values()))
    names = {column: made[0] for column, kind in first.features.items() if (made := _class_names(kind))}
    rows, places, parts = [], [], []
    for split, data in splits.items():
        replace = {column: made[1] for column, kind in data.features.items() if (made := _class_names(kind))}
        rows += _named(data, replace)
        places += [f"{name}, {f'split {split}, ' if split else ''}row {number + 1}" for number in range(len(data))]
        parts += [SPLIT_NAMES.get(str(split).lower(), split)] * len(data)
    has_parts = len(splits) > 1
    return Table(rows, first.column_names, source, "", places, class_names=names, splits=parts if has_parts else None)


def _class_names(kind) -> tuple[tuple[str, ...], Callable] | None:
    """The names of a ClassLabel, or of a list of them, and what makes names of its numbers."""
    from datasets import ClassLabel, List

    if isinstance(kind, ClassLabel):
        return tuple(kind.names), lambda number: kind.names[number] if number is not None and number >= 0 else None
    inner = kind.feature if isinstance(kind, List) else kind[0] if isinstance(kind, list) and len(kind) == 1 else None
    if isinstance(inner, ClassLabel):
        return tuple(inner.names), lambda numbers: [inner.names[number] for number in numbers or ()]
    return None


def _named(data: Iterable[dict], replace: dict[str, Callable]) -> list[dict]:
    return [{**row, **{column: name(row[column]) for column, name in replace.items()}} for row in data]
