"""
Tables as text, such as CSV and TSV: the encoding, the delimiter and the meaning of quotation marks are found out, and
what is not the usual is said. The cells are parsed by Python's `csv`.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice

from ..utils.errors import InputError, one_line

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
NONE = "\x1f"  # a delimiter that no file of one column has
SAMPLE, ROWS = 100_000, 200  # characters, fewer than csv takes for a cell, and rows of them, that tell the delimiter
# Usual names of the columns of texts and of labels; the first of each wins over the others.
TEXT_NAMES = (
    "text", "message", "sms", "body", "content", "question", "sentence", "review", "comment", "tweet", "utterance",
    "mail", "email", "ticket", "texts", "messages", "description", "document",
)  # fmt: skip
LABEL_NAMES = (
    "label", "category", "class", "topic", "target", "intent", "sentiment", "labels", "categories", "topics", "tag",
    "tags", "label_text", "label_name",
)  # fmt: skip
# What spreadsheets write, the most usual first: among all that it knows, charset-normalizer errs on little text.
ENCODINGS = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "mac_roman", "koi8_r"),
    *("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
)
SEPARATORS = ("\n", "\r", " ", ",", '"')  # one of which nearly every text has
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass
class Cells:
    """
    The cells of a delimited file below its header, those of row i as text in `rows[i]`: no more and no fewer than
    `columns`. `numbers[i]` is its row in the file, from 1 on and with the header, as a spreadsheet counts. `faults`
    says of some i what is wrong. `has_header` is False where the first row is data. `delimiter`, `encoding` and
    `line_end` are those that were found.
    """

    columns: list[str]
    rows: list[list[str]]
    numbers: list[int]
    faults: dict[int, str]
    has_header: bool
    notes: list[str] = field(default_factory=list)
    delimiter: str = ","
    encoding: str = "utf-8"
    line_end: str = "\n"


def decode(content: bytes, path: str | os.PathLike) -> tuple[str, str]:
    """
    The text of a file, and the encoding that it was found to have: by its byte order mark, UTF-8, UTF-16 without a
    mark, or else the guess of charset-normalizer, where that is installed.

    Raises:
        InputError: for bytes that no encoding explains.
    """
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8":
        encoding = _utf16_without_mark(content[:SAMPLE]) or encoding
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError as error:
        problem = error
    if encoding == "utf-8" and b"\0" not in content and find_spec("charset_normalizer"):
        from charset_normalizer import from_bytes

        guess, usual = (from_bytes(content, cp_isolation=names).best() for names in (ENCODINGS, ENCODINGS[:1]))
        if guess is not None:
            if usual is not None and usual.chaos <= guess.chaos and usual.coherence > guess.coherence - 0.02:
                guess = usual
            return str(guess), guess.encoding
    raise InputError(f"{path} is not {encoding.removesuffix('-sig').upper()} text ({problem}); save it as UTF-8.")


def _utf16_without_mark(sample: bytes) -> str | None:
    """
    The encoding, where one half of most characters is NUL and the other halves are not, as in English, or where one of
    the usual separators mostly stands as a character of two bytes: a NUL here and there is a character of UTF-8.
    """
    units = Counter(sample[start : start + 2] for start in range(0, len(sample), 2))
    low, high = (sample[start::2].count(0) for start in (0, 1))
    for name, nuls, others in (("utf-16-le", high, low), ("utf-16-be", low, high)):
        in_two = any(0 < sample.count(one.encode()) < 2 * units[one.encode(name)] for one in SEPARATORS)
        if in_two or (nuls > len(sample) / 4 and nuls > 10 * others):
            return name
    return None


def parse_delimited(content: bytes, path: str | os.PathLike) -> Cells:
    """
    Reads a CSV, TSV or other delimited file.

    Raises:
        InputError: when it is empty or not text, has a quotation mark that is never closed, or two columns of a name.
    """
    text, encoding = decode(content, path)
    if not text.strip("\0\ufeff \r\n"):
        raise InputError(f"{path} is empty.")
    suffix = os.path.splitext(path)[1].lower()
    delimiter = "\t" if suffix == ".tsv" else find_delimiter(text)
    records, has_quotes = _parse(text, delimiter, path)
    notes = [] if encoding in ("utf-8", "utf-8-sig") else [f"{os.path.basename(path)} was read as {encoding}."]
    if delimiter not in (NONE, ",") and suffix != ".tsv":
        notes.append(f"The cells of {os.path.basename(path)} are separated by {DELIMITERS[delimiter]}.")
    if not has_quotes:
        notes.append(f"Quotation marks in {os.path.basename(path)} are read as text.")
    if empty := sum(len(record) > 1 and not any(cell.strip() for cell in record) for record in records):
        notes.append(f"Rows of {os.path.basename(path)} without any text are left out: {empty}.")
    numbered = [(number, record) for number, record in enumerate(records, start=1) if any(c.strip() for c in record)]
    if not numbered:
        raise InputError(f"{path} is empty.")
    has_header = not _is_data(numbered[0][1], [record for _, record in numbered[1:]])
    names = [cell.strip() for cell in numbered[0][1]] if has_header else [""] * len(numbered[0][1])
    columns = [name or f"column {number}" for number, name in enumerate(names, start=1)]
    for name in columns:
        if columns.count(name) > 1:
            raise InputError(
                f"{path} has {columns.count(name)} columns of the name {name!r}; give them different names."
            )
    if not has_header:
        notes.append(f"{os.path.basename(path)} has no header: its columns are called {', '.join(columns)}.")
    line_end = "\r\n" if 2 * text.count("\r\n") > text.count("\n") else "\n"
    found = {"delimiter": "," if delimiter == NONE else delimiter, "encoding": encoding, "line_end": line_end}
    cells = Cells(columns, [], [], {}, has_header, notes, **found)
    for number, record in numbered[has_header:]:
        if any(cell.strip() for cell in record[len(columns) :]):
            cells.faults[len(cells.rows)] = f"it has {len(record)} cells, and the header has {len(columns)}"
        cells.rows.append((record + [""] * len(columns))[: len(columns)])
        cells.numbers.append(number)
    return cells


def find_delimiter(text: str) -> str:
    """The delimiter by which most rows have as many cells as the first, and more than one; `NONE` for one column."""
    best = (0.5, len(text), NONE)
    for delimiter in DELIMITERS:
        try:
            rows = list(islice(csv.reader(io.StringIO(text[:SAMPLE], newline=""), delimiter=delimiter), ROWS))
        except csv.Error:
            continue
        rows = [row for row in rows[: -1 if len(text) > SAMPLE and len(rows) < ROWS else None] if row]
        width = len(rows[0]) if rows else 1
        alike = sum(len(row) == width for row in rows)
        if width > 1 and (alike / len(rows), width) > best[:2]:
            best = (alike / len(rows), width, delimiter)
    return best[2]


def _parse(text: str, delimiter: str, path: str | os.PathLike) -> tuple[list[list[str]], bool]:
    """
    The rows, and whether quotation marks enclose cells. They are text where they would swallow rows that without them
    all have the same number of cells.
    """
    limit = csv.field_size_limit(2**31 - 1)  # a cell may be a whole mail
    try:
        plain = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE))
        is_even = len({len(row) for row in plain if row}) == 1
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows, start = [], 1
        try:
            for row in reader:
                rows.append(row)
                start = reader.line_num + 1
        except csv.Error as error:
            if is_even and delimiter != NONE:  # one column is always even
                return plain, False
            raise InputError(
                f"{path}, row {len(rows) + 1} (from line {start} on): its quotation marks do not match"
                f" ({one_line(error)}); double those that are text."
            ) from None
        swallows = len(rows) < len(plain)
        return (plain, False) if swallows and is_even and delimiter == "\t" else (rows, True)
    finally:
        csv.field_size_limit(limit)


def _is_data(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is no header: a cell of it stands in its column again and again, as a label does."""
    if len(first) < 2 or [cell.strip() for cell in first] == [str(number) for number in range(len(first))]:
        return False  # names of pandas, for columns that have none
    others = [row for row in others if list(row) != list(first)]  # files with the same header, joined
    columns = [[row[i].strip() for row in others if i < len(row)] for i in range(len(first))]
    again = [(cell.strip(), column.count(cell.strip())) for cell, column in zip(first, columns)]
    if any(name.lower() in (*TEXT_NAMES, *LABEL_NAMES) and not times for name, times in again):
        return False  # as in text,spam above the labels spam and ham
    return any(name and times > 1 for name, times in again)
