"""
The SMS Spam Collection (Almeida & Hidalgo 2011, UCI data set 228, CC BY 4.0): 4,827 ham and 747 spam messages.

Its messages come in near-copies (a prize draw sent twice with other numbers), so that a random split tests on messages
seen in training. The `grouped` protocol keeps such copies together; the `book` protocol is that of "Build a Large
Language Model (From Scratch)", leak included, for comparison with published numbers.
"""

import hashlib
import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from datasets import Dataset, DatasetDict

from ..utils.errors import InputError, UsageError, one_line
from .columns import as_text, find_text_column
from .download import download
from .labelled_texts import LabelledTexts, leaked_rows, normalize  # noqa: F401 (the same for all texts)
from .labelled_texts import split as split_texts
from .tables import Table, read_table

URL = "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip"
MEMBER = "SMSSpamCollection"
SHA256 = "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
LABELS = ("ham", "spam")
TABLES = (".csv", ".json", ".jsonl", ".parquet")  # a .tsv may be in the collection's format, without a header


@dataclass(frozen=True)
class Messages:
    """Labelled messages: `labels[i]` is the index of `texts[i]`'s label in `LABELS`."""

    texts: list[str]
    labels: list[int]
    source: str

    @property
    def tsv(self) -> str:
        """One `label<TAB>text` line for each message: the file, if these came from a file."""
        return "".join(f"{LABELS[label]}\t{text}\n" for label, text in zip(self.labels, self.texts))

    @property
    def sha256(self) -> str:
        """The hash of `tsv`, the same whatever source the messages came from."""
        return hashlib.sha256(self.tsv.encode()).hexdigest()


def load_messages(data_file: str | os.PathLike | None = None, dataset_name: str | None = None) -> Messages:
    """
    The messages of `data_file` (the collection's file, any other of its format, UCI's zip, or a table such as CSV or
    Parquet, or a folder of them, with columns for the label and the message), of the Hub data set `dataset_name`
    (`ucirvine/sms_spam`, or one with such columns), or else downloaded from UCI.

    Raises:
        InputError: when the data is missing, damaged or malformed, naming the line.
    """
    if data_file and dataset_name:
        raise UsageError("Give --data_file or --dataset_name, not both.")
    if dataset_name:
        return _from_table(read_table(dataset_name=dataset_name))
    path = Path(data_file) if data_file else download(URL, check=_unzip)
    if path.is_dir() or path.suffix.lower() in TABLES:
        return _from_table(read_table(path))
    if not path.is_file():
        raise InputError(f"The data file {path} does not exist.")
    content = _unzip(path) if zipfile.is_zipfile(path) else path.read_bytes()
    if content[:4] == b"PK\x03\x04":
        raise InputError(f"The zip file {path} is incomplete; download it again.")
    try:
        return parse_messages(content.decode("utf-8-sig"), str(path) if data_file else URL)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from None


def parse_messages(content: str, source: str) -> Messages:
    """
    Reads `label<TAB>text` lines. Quotation marks are text: a CSV reader's quoting would swallow two messages.

    Raises:
        InputError: naming the first line without a tab, with an unknown label or without a message.
    """
    texts, labels = [], []
    for number, line in enumerate(content.removesuffix("\n").split("\n"), start=1):
        label, tab, text = line.removesuffix("\r").partition("\t")
        if not tab:
            raise InputError(f"{source}, line {number}: there is no tab between label and message.")
        if label not in LABELS:
            raise InputError(f"{source}, line {number}: unknown label {label!r}; it must be {' or '.join(LABELS)}.")
        if not text.strip():
            raise InputError(f"{source}, line {number}: the message is empty.")
        texts.append(text)
        labels.append(LABELS.index(label))
    return Messages(texts, labels, source)


def split(messages: Messages, protocol: str, seed: int) -> DatasetDict:
    """
    Train, validation and test sets of 70, 10 and 20 %, with columns `text` and `label`.

    Args:
        protocol: "grouped" keeps near-copies in one set and the natural share of spam in each; "book" balances the
            classes by drawing as many ham as there are spam, with the book's seed 123 whatever `seed` is.

    Raises:
        InputError: for another protocol, or too few messages to split.
    """
    if protocol == "book":
        return _book_split(messages)
    if protocol != "grouped":
        raise InputError(f"The protocol must be 'grouped' or 'book', not {protocol!r}.")
    return split_texts(LabelledTexts(messages.texts, messages.labels, LABELS, messages.source, messages.sha256), seed)


def _book_split(messages: Messages) -> DatasetDict:
    # With the CSV quoting the book reads by, which makes 5,572 rows of 5,574, so that the sample is the book's own.
    source = io.StringIO(messages.tsv)
    try:
        table = pd.read_csv(source, sep="\t", header=None, names=["label", "text"], keep_default_na=False)
        table["label"] = table["label"].map(LABELS.index)
    except ValueError as error:  # pandas' ParserError too; a message of two lines has no label on its second
        raise InputError(
            f"The book's protocol cannot read {messages.source} ({one_line(error)}); use --protocol grouped."
        ) from None
    ham, spam = table[table.label == 0], table[table.label == 1]
    if len(spam) < 10:
        raise InputError(f"The book's protocol needs at least 10 spam messages, and there are {len(spam)}; add more.")
    if len(ham) < len(spam):
        raise InputError(
            f"The book's protocol needs at least as much ham as spam, and there are {len(ham)} and {len(spam)}; use"
            " --protocol grouped."
        )
    balanced = pd.concat([ham.sample(len(spam), random_state=123), spam]).sample(frac=1, random_state=123)
    train = int(len(balanced) * 0.7)
    validation = train + int(len(balanced) * 0.1)
    parts = {"train": balanced[:train], "validation": balanced[train:validation], "test": balanced[validation:]}
    return DatasetDict({name: Dataset.from_pandas(part, preserve_index=False) for name, part in parts.items()})


def _unzip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(MEMBER)
    except KeyError:
        raise InputError(f"The zip file {path} has no {MEMBER} in it; give UCI's zip, or the text file.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"The zip file {path} is damaged ({error}); download it again.") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"{MEMBER} in {path} does not have the collection's SHA-256; download it again.")
    return content


def _from_table(table: Table) -> Messages:
    if "label" not in table.columns:
        raise InputError(
            f"{table.source} has the columns {', '.join(table.columns)}, not label and sms or text; choose another."
        )
    column = "sms" if "sms" in table.columns else find_text_column(table, trained_on={"label_column": "label"})
    texts, labels = [], []
    numbers = {str(number): number for number in range(len(LABELS))} | {name: i for i, name in enumerate(LABELS)}
    for row, place in zip(table.rows, table.places):
        label = str(row.get("label")).strip()
        text = as_text(row.get(column), place, column).removesuffix("\n")  # the Hub's texts end in a line break
        if label not in numbers:
            raise InputError(f"{place}: unknown label {label!r}; it must be 0 or {LABELS[0]}, 1 or {LABELS[1]}.")
        if not text.strip():
            raise InputError(f"{place}: the message is empty.")
        texts.append(text)
        labels.append(numbers[label])
    return Messages(texts, labels, table.source)
