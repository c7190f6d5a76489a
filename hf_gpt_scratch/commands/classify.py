"""`hf-gpt-scratch classify`: texts and their labels, one by one or a whole table."""

import argparse
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.errors import InputError, UsageError
from ..utils.files import require_file
from ..utils.terminal import lines_that_came, quieten_transformers
from .arguments import add_device_options, placement, positive, probability, require_model
from .classify_output import Output, note

if TYPE_CHECKING:
    from ..classification.classifier import Prediction, TextClassifier
    from ..data.tables import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Prints a line for each text: its label, the probability (0 to 1), and the text
itself, separated by tabs. The probability is that of label 1 (of a spam filter,
spam) where the classifier has two labels, else that of the label. An empty line
of a file or of stdin gives "-", "-" and no text, so that line n of the output
is about line n of the input. With --stream --decide_at, "-" in the third place
means: not before the end.

--file takes a table (.csv, .tsv, .json, .jsonl, .parquet), whose column of
texts is found by its name or given by --text_column, or else a file with a
message a line. With --output the rows of the table are written with all their
columns, in their order, and with label and probability added (decided_at with
--decide_at, labels where a text may have several). CSV keeps the delimiter of
the table, and is UTF-8; with a byte order mark, by which spreadsheets know it,
where the table had one or was not UTF-8. A bad row, with more cells than the
header or no text but a list, stops the command; with --bad_rows drop it keeps
its place and gets no label.

With --json each line is an object with the keys text, label, probability,
threshold (label 1 is above it) and truncated (whether a part was not read);
with more than two labels probabilities instead of threshold; with --stream also
words, a list of words, each with what is said after it. Label and probability
of an empty line are null."""
    parser.epilog = (
        "Examples:\n  hf-gpt-scratch classify runs/demo/spam 'You have won a free prize' --stream\n"
        "  hf-gpt-scratch classify runs/demo/spam --file messages.txt --json\n"
        "  hf-gpt-scratch classify runs/tickets --file tickets.csv --output labelled.csv\n"
        "  hf-gpt-scratch classify you/spam 'See you at home'"
    )
    parser.add_argument("dir", metavar="DIR", help="a folder or Hub repository (owner/name) of a trained classifier")
    parser.add_argument(
        "text",
        metavar="TEXT",
        nargs="*",
        default=[],
        help="texts, each in quotes; several words without quotes are one text (default: read stdin, a text a line)",
    )
    parser.add_argument("--file", help="read the texts from this table, or from this file with one a line")
    parser.add_argument("--text_column", metavar="NAME", help="the column of the table with the texts")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the rows of --file there with their labels (.csv, .tsv, .json, .jsonl or .parquet)",
    )
    parser.add_argument(
        "--bad_rows",
        choices=("fail", "drop"),
        default="fail",
        help="what to do with bad rows of --file: stop, or go on without a label for them (default: %(default)s)",
    )
    parser.add_argument("--stream", action="store_true", help="show what is said after each word")
    parser.add_argument(
        "--decide_at",
        type=probability,
        metavar="SHARE",
        help="also say after which word the verdict is as good as final: it is that on the whole text in this share of"
        " texts, such as 0.99 (fitted by `hf-gpt-scratch calibrate`)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each text")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        help="texts of 64 tokens per forward pass (default: 32); more of shorter ones, fewer of longer ones",
    )
    add_device_options(parser)


def check(args: argparse.Namespace) -> None:
    """What can be checked before torch is imported."""
    if args.text and args.file:
        raise UsageError("Give messages or --file, not both.")
    for option in ("text_column", "output"):
        if getattr(args, option) and not args.file:
            raise UsageError(f"--{option} is for the rows of a --file.")
    if args.output and (args.json or args.stream):
        raise UsageError("--output writes a table, and --json and --stream print lines: give one of them.")
    require_model(args.dir)
    if args.file:
        require_file(args.file)
        _look_at_file(args)
    if args.output:
        from ..data.writing import require_writable

        require_writable(args.output, args.file)


def _look_at_file(args: argparse.Namespace) -> None:
    """Raises `InputError` for a file whose rows or column of texts cannot be read, as far as that is seen at once."""
    from ..data.columns import columns_trained_on, find_text_column
    from ..data.first_look import look

    look(
        args.file,
        lambda table: find_text_column(table, args.text_column, columns_trained_on(args.dir)),
        is_table=bool(args.text_column) or _is_table(args.file),
    )


def run(args: argparse.Namespace) -> None:
    """The command."""
    from ..classification.classifier import TextClassifier

    quieten_transformers()
    classifier = TextClassifier.from_pretrained(args.dir, **placement(args))
    classifier.require_early(args.decide_at)
    typed = not (args.text or args.file) and sys.stdin.isatty()  # then each line is answered at once
    explains_each = typed or bool(args.text)
    output = Output(classifier, args.json, args.stream, args.decide_at, explains_each)
    if args.file and (args.output or args.text_column or _is_table(args.file)):
        rows, column = _read_rows(args)
        messages, bad = _texts(rows, column, args.bad_rows)
        output.empty -= bad  # of which a note has told
        if args.output:
            _write(args, classifier, rows, messages, output)
            return
        together = [messages]
    elif args.file:
        together = [_lines(args.file)]
    else:
        together = [_quoted(args.text)] if args.text else _arriving(typed)
    number = 0
    for messages in together:
        for prediction in predict(classifier, messages, args.batch_size, args.decide_at, args.stream):
            output.show(number := number + 1, prediction)
    output.end()


def predict(
    classifier: "TextClassifier",
    messages: Iterable[str],
    batch_size: int,
    decide_at: float | None = None,
    words: bool = False,
) -> Iterator["Prediction | None"]:
    """The prediction of each message, in order; `None` for an empty one."""
    empty = deque()  # of each message that was read and not answered: whether it is

    def with_text() -> Iterator[str]:
        for message in messages:
            empty.append(not message.strip())
            if message.strip():
                yield message

    for prediction in classifier.classify(with_text(), batch_size, decide_at, words):
        while empty.popleft():
            yield None
        yield prediction
    yield from (None for _ in empty)


def _is_table(file: str) -> bool:
    from ..data.tables import KINDS

    return Path(file).suffix.lower() in (*KINDS, ".xlsx")  # of which `read_table` says what to do


def _read_rows(args: argparse.Namespace) -> tuple["Table", str]:
    """The rows of the file, and which of their columns holds the texts; a message a line is a table of one column."""
    from ..data.columns import columns_trained_on, find_text_column
    from ..data.tables import Table, read_table

    if not (args.text_column or _is_table(args.file)):
        lines = _lines(args.file)
        places = [f"{args.file}, line {number}" for number in range(1, len(lines) + 1)]
        return Table([{"text": line} for line in lines], ["text"], args.file, "", places), "text"
    table = read_table(args.file, keep_faulty=True)
    column = find_text_column(table, args.text_column, columns_trained_on(args.dir))
    notes = table.notes if args.text_column else [*table.notes, f"The texts are in the column {column!r}."]
    for sentence in notes:
        note(sentence)
    return table, column


def _texts(table: "Table", column: str, bad_rows: str) -> tuple[list[str], int]:
    """
    The texts of the rows, "" of bad ones, and how many those are; raises `InputError` for the first of them where
    `bad_rows` is fail.
    """
    from ..data.columns import as_text
    from ..data.tables import HALF_CHARACTER, NO_TEXT, TOO_WIDE, describe_faults
    from ..utils.text import has_lone_surrogates

    texts, faults = [], {}
    for i, (row, place) in enumerate(zip(table.rows, table.places)):
        try:
            text, fault = as_text(row.get(column), place, column), TOO_WIDE if i in table.faults else None
            sentence = f"{place}: {table.faults.get(i)}; put text that holds the separator in quotation marks."
        except InputError as error:
            text, fault, sentence = "", NO_TEXT, str(error)
        if fault is None and has_lone_surrogates(text):
            fault, sentence = HALF_CHARACTER, f"{place}: {column!r} has half a character (a lone surrogate)."
        if fault and bad_rows == "fail":
            raise InputError(f"{sentence.removesuffix('.')}; or go on without a label for such rows: --bad_rows drop.")
        if fault:
            faults[i] = fault
        texts.append("" if fault else text)
    if faults:
        cut = ", and have only the cells below it" if TOO_WIDE in faults.values() else ""
        note(f"{describe_faults(table, faults)}; they get no label{cut}.")
    return texts, len(faults)


def _write(
    args: argparse.Namespace, classifier: "TextClassifier", table: "Table", texts: list[str], output: Output
) -> None:
    """Writes the rows with what is said of them, and prints how often each label was said."""
    from tqdm import tqdm

    from ..data.writing import write_rows

    names = ["label", "probability"]
    names += ["labels"] * classifier.calibration.is_multi_label
    names += ["decided_at"] * (args.decide_at is not None)
    columns = _free_names(names, table)
    predictions = predict(classifier, texts, args.batch_size, args.decide_at)
    rows, counts = [], Counter()
    for row, prediction in tqdm(
        zip(table.rows, predictions, strict=True), total=len(texts), desc="classify", unit="text", disable=None
    ):
        rows.append({**row, **{column: _value(prediction, name) for name, column in columns.items()}})
        output.empty += prediction is None
        if prediction is not None:
            output.count(prediction)
            counts.update(prediction.labels or [prediction.label])
    delimiter = "," if Path(args.file).suffix.lower() == ".tsv" else table.delimiter
    if Path(args.output).suffix.lower() in (".csv", ".tsv"):
        for row in rows:
            if (several := columns.get("labels")) and row[several] is not None:
                row[several] = "|".join(row[several])
    write_rows(args.output, rows, [*table.columns, *columns.values()], delimiter, table.encoding, table.line_end)
    said = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(10))
    print(f"{args.output}: {len(rows):,} rows{'; ' if said else ''}{said}{', ...' if len(counts) > 10 else ''}")
    output.note_cut()
    output.end()


def _value(prediction: "Prediction | None", name: str):
    """What goes into a column of that name; nothing for an empty text."""
    value = getattr(prediction, name, None)
    return list(value) if isinstance(value, tuple) else value


def _free_names(names: list[str], table: "Table") -> dict[str, str]:
    """The columns to add by their names, called `predicted_label` and so on where the table has one of them."""
    taken = [name for name in names if name in table.columns]
    columns = {name: f"predicted_{name}" if taken else name for name in names}
    if again := [column for column in columns.values() if column in table.columns]:
        raise InputError(
            f"{table.source} already has the columns {', '.join(map(repr, [*taken, *again]))}; rename one of each."
        )
    if taken:
        note(f"{table.source} has a column {taken[0]!r}, so the new ones are {', '.join(columns.values())}.")
    return columns


def _lines(file: str) -> list[str]:
    """The messages of a file with one a line."""
    from ..data.delimited import decode

    text, encoding = decode(Path(file).read_bytes(), file)
    if encoding not in ("utf-8", "utf-8-sig"):
        note(f"{Path(file).name} was read as {encoding}.")
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _arriving(typed: bool) -> Iterator[list[str]]:
    """The messages of standard input, one a line, as many at a time as have come: each is answered without delay."""
    if typed:
        print("Type a message a line; Ctrl-D ends.", file=sys.stderr)
    try:
        for lines in lines_that_came(sys.stdin):
            yield [line for line in lines if line.strip() or not typed]
    except UnicodeDecodeError as error:
        raise InputError(f"The input is not UTF-8 text ({error.reason}).") from None


def _quoted(texts: list[str]) -> list[str]:
    """The messages of the command line; several of a single word each are one message without its quotes."""
    if not all(text.strip() for text in texts):
        raise InputError("A message is empty.")
    if len(texts) == 1 or any(len(text.split()) > 1 for text in texts):
        return texts
    message = " ".join(texts)
    note(f"read as one message: {message!r}. Put a message in quotes; give several single words with --file.")
    return [message]
