"""What can be seen of a data file in a moment, before torch and transformers are imported, which takes seconds."""

import os
from collections.abc import Callable
from pathlib import Path

from .tables import Table, read_table, require_text, tables_below

MOST_BYTES = 5_000_000  # that are read at once; of more, the beginning


def look(
    data_file: str | os.PathLike, find: Callable[[Table], object] = lambda table: None, is_table: bool = True
) -> None:
    """
    Reads a file or a folder that is small and no Parquet file; of others it looks at the beginning.

    Args:
        find: called with the rows; raises `InputError` where columns are missing.
        is_table: whether the file is read as a table at all.

    Raises:
        InputError: when it is empty, of a kind that is never read, or not what it should be, as `read_table`.
    """
    path = Path(data_file)
    if not path.is_dir():
        if not path.is_file():  # a pipe, which can be read once
            return
        with open(path, "rb") as file:
            require_text(path, file.read(100), is_table)
    if is_table and _is_read_soon(tables_below(path) if path.is_dir() else [path]):
        find(read_table(path, keep_faulty=True))


def _is_read_soon(files: list[Path]) -> bool:
    return sum(one.stat().st_size for one in files) <= MOST_BYTES and not any(map(_is_parquet, files))


def _is_parquet(path: Path) -> bool:
    with open(path, "rb") as file:
        return path.suffix.lower() == ".parquet" or file.read(4) == b"PAR1"
