"""
Plain text to pretrain on: "The Verdict", files, a Hub data set; read, split and tokenized as a stream of pieces, so
that it may be larger than memory.

A document is a file, a row of a data set, or the text between two `<|endoftext|>` in either; an EOS token follows
each.
"""

import codecs
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
from datasets import IterableDataset as HubRows
from datasets import load_dataset_builder
from transformers import PreTrainedTokenizerBase

from ..tokenizer import END_TOKEN
from ..utils.errors import InputError, UsageError, one_line, raise_if_starved
from ..utils.special_tokens import beginning
from .download import download
from .tables import files_below

VERDICT_URL = (
    "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt"
)
VERDICT_SHA256 = "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f"
SUFFIXES = (".txt", ".md")
PIECE = 2**16  # characters of a file read at a time
BLOCK = 2**18  # characters tokenized at a time, more where a document is longer
LARGEST_BLOCK = 2**20

Piece = tuple[str, bool]  # some text, and whether its document ends with it


@dataclass(frozen=True)
class Text(ABC):
    """
    A text that can be read again and again.

    Args:
        source: where it comes from, for people.
        sha256: of its file; of a folder, the hash of the lines `sha256  path` of its files.
        revision: of a data set of the Hub, the fingerprint of its files.
        characters: how many there are; `None` where that is known only after reading all of it.
    """

    source: str
    sha256: str | None = None
    revision: str | None = None
    characters: int | None = None

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """The text in pieces, in order."""


@dataclass(frozen=True)
class FileText(Text):
    """The text of files, each at least one document."""

    paths: tuple[Path, ...] = ()

    def pieces(self) -> Iterator[Piece]:
        for path in self.paths:
            with open(path, encoding="utf-8-sig") as file:
                yield from _documents(_cut_before_space(lambda file=file: file.read(PIECE)))


@dataclass(frozen=True)
class HubText(Text):
    """The text of a data set's rows, each at least one document, streamed."""

    rows: HubRows | None = None
    column: str = "text"

    def pieces(self) -> Iterator[Piece]:
        # By batches: in a worker of torch's DataLoader, iterating rows would read only some of the data set's files.
        for batch in self.rows.iter(batch_size=100):
            for text in batch[self.column]:
                yield from _documents([text or ""])


@dataclass(frozen=True)
class TextInMemory(Text):
    """A text in memory."""

    content: tuple[Piece, ...] = ()

    def pieces(self) -> Iterator[Piece]:
        yield from self.content


def load_text(
    data_file: str | os.PathLike | None = None,
    dataset_name: str | None = None,
    dataset_config: str | None = None,
    dataset_split: str = "train",
    text_column: str = "text",
) -> Text:
    """
    The text of `data_file` (a file, or a folder of .txt and .md files), of the Hub data set `dataset_name`, or else
    "The Verdict" by Edith Wharton (1908), downloaded.

    Raises:
        InputError: when it is missing, empty, damaged, not UTF-8, or has no such column.
    """
    if data_file and dataset_name:
        raise UsageError("Give --data_file or --dataset_name, not both.")
    if dataset_name:
        return _from_hub(dataset_name, dataset_config, dataset_split, text_column)
    if data_file:
        return _from_files(Path(data_file))
    return _from_files(download(VERDICT_URL, VERDICT_SHA256), VERDICT_URL)


def _from_files(path: Path, source: str | None = None) -> FileText:
    if path.is_dir():
        paths = files_below(path, SUFFIXES)
        if not paths:
            raise InputError(f"The folder {path} has no {' or '.join(SUFFIXES)} files.")
    elif path.is_file():
        paths = [path]
    else:
        raise InputError(f"The data file {path} does not exist.")
    hashes, characters, is_empty = [], 0, True
    for file in paths:
        hashed, length, is_blank = _check_file(file)
        hashes.append(hashed)
        characters += length
        is_empty = is_empty and is_blank
    if is_empty:
        raise InputError(f"There is no text in {path}; give a file or folder with text.")
    if path.is_dir():
        lines = "".join(f"{hashed}  {file.relative_to(path).as_posix()}\n" for hashed, file in zip(hashes, paths))
        hashes = [hashlib.sha256(lines.encode()).hexdigest()]
    return FileText(source or str(path), sha256=hashes[0], characters=characters, paths=tuple(paths))


def _check_file(path: Path) -> tuple[str, int, bool]:
    """A file's SHA-256, how many characters it has, and whether all are blank; about 2 seconds for a gigabyte."""
    hasher, decoder, characters, is_blank = hashlib.sha256(), codecs.getincrementaldecoder("utf-8-sig")(), 0, True
    try:
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                hasher.update(chunk)
                text = decoder.decode(chunk)
                characters += len(text)
                is_blank = is_blank and not text.strip()
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}).") from None
    return hasher.hexdigest(), characters, is_blank


def _from_hub(name: str, config: str | None, split: str, column: str) -> HubText:
    try:
        builder = load_dataset_builder(name, config)
        rows = builder.as_streaming_dataset(split=split)
        # Rows may be empty: the first that is not shows what the column holds.
        first = next((row for row in islice(rows, 1000) if row.get(column) is not None), next(iter(rows), None))
    except Exception as error:  # datasets raises a dozen types for a name, a network or a format that is not good
        raise_if_starved(error, datasets.config.HF_DATASETS_CACHE)
        raise InputError(
            f"The data set {name} could not be loaded (no network? {one_line(error)}); check its name and"
            " configuration."
        ) from None
    if first is None:
        raise InputError(f"The data set {name} has no rows in its split {split}; choose another with --dataset_split.")
    if not isinstance(first.get(column), str):
        raise InputError(
            f"The data set {name} has no column {column!r} of text, but {', '.join(first)}; choose one with"
            " --text_column."
        )
    return HubText(f"{name}, {split}", revision=builder.hash, rows=rows, column=column)


def _cut_before_space(read: Callable[[], str]) -> Iterator[str]:
    """
    What `read` returns until it is empty, cut again so that each piece but the first begins with white space: there
    GPT-2's pattern ends a word too, so that the pieces have the tokens of the whole. `LARGEST_BLOCK` characters
    without white space are cut where they are.
    """
    rest = ""
    while chunk := read():
        text = rest + chunk
        words = text.rsplit(None, 1)  # the last is perhaps unfinished
        end = len(words[0]) if len(words) == 2 else len(text) if len(text) >= LARGEST_BLOCK else 0
        if end:
            yield text[:end]
        rest = text[end:]
    if rest:
        yield rest


def _documents(texts: Iterable[str]) -> Iterator[Piece]:
    """The pieces of a file or a row, cut where an EOS token is written in it."""
    for text in texts:
        *ended, rest = text.split(END_TOKEN)
        for document in ended:
            yield document, True
        yield rest, False
    yield "", True


@dataclass(frozen=True)
class Part:
    """The characters from `start` to `stop` (`None`: to the end) of a text."""

    text: Text
    start: int
    stop: int | None = None

    def pieces(self) -> Iterator[Piece]:
        """The part in pieces, in order, without documents that have no text."""
        position, has_text = 0, False
        for text, ends in self.text.pieces():
            begin, position = position, position + len(text)
            if self.stop is not None and begin >= self.stop:
                return
            if self.stop is not None and position > self.stop:
                text, ends = text[: self.stop - begin], False
            text = text[max(self.start - begin, 0) :]
            has_text = has_text or bool(text.strip())
            if has_text and (text or ends):
                yield text, ends
            has_text = has_text and not ends

    def texts(self, characters: int) -> Iterator[str]:
        """At most so many characters of the part, to train a tokenizer on."""
        stop = self.start + characters
        for text, _ in Part(self.text, self.start, stop if self.stop is None else min(stop, self.stop)).pieces():
            yield text


def split(
    text: Text, validation_share: float, streaming: bool, max_validation_characters: int
) -> tuple[Part, Part, str]:
    """
    The training and the validation part, and how they were split. Of a text in memory the last characters are for
    validation, as in the book; of a stream, whose end may be far away, the first.

    Raises:
        UsageError: for a share that leaves one of them empty.
    """
    if not 0 < validation_share < 1:
        raise UsageError(f"validation_share must be between 0 and 1, not {validation_share}.")
    if streaming:
        size = max_validation_characters
        if text.characters is not None:
            size = min(size, int(text.characters * validation_share))
        return (
            Part(text, size),
            Part(text, 0, size),
            f"the first {size:,} characters are for validation, the rest for training",
        )
    in_memory = TextInMemory(text.source, text.sha256, text.revision, content=tuple(text.pieces()))
    size = int(sum(len(piece) for piece, _ in in_memory.content) * (1 - validation_share))
    return (
        Part(in_memory, 0, size),
        Part(in_memory, size),
        f"the first {size:,} characters are for training, the rest for validation",
    )


def tokenize(part: Part, tokenizer: PreTrainedTokenizerBase) -> Iterator[np.ndarray]:
    """
    The token ids of a part, with the EOS token after each document, and the BOS token before it where the tokenizer
    puts one there, in blocks `(N,)` of int32. A block ends with a document where documents are not enormous.
    """
    bos, begins = beginning(tokenizer), True  # whether the next piece is the first of its document
    options = {"add_special_tokens": False, "split_special_tokens": True, "return_attention_mask": False}
    for block in _blocks(part.pieces()):
        encoded = tokenizer([text for text, _ in block], **options, verbose=False)
        ids = []
        for row, (_, ends) in zip(encoded["input_ids"], block):
            ids += [*(bos if begins else ()), *row, *([tokenizer.eos_token_id] if ends else ())]
            begins = ends
        yield np.array(ids, dtype=np.int32)


def _blocks(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    block, size = [], 0
    for text, ends in pieces:
        block.append((text, ends))
        size += len(text)
        if size >= LARGEST_BLOCK or (size >= BLOCK and ends):
            yield block
            block, size = [], 0
    if block:
        yield block
