"""
Questions and answers (an FAQ), for a bot: columns `question` and `answer`; if wanted `rephrasings`, other wordings of
the question, as a list or separated by `|`; and `kind`, which is `near-miss` or `off-topic` for questions that the FAQ
does not answer, with which the bot learns when to refuse.
"""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..utils.errors import InputError
from ..utils.text import has_lone_surrogates, plain_words
from .tables import Table, read_table

ANSWERED, UNANSWERED = "answered", ("near-miss", "off-topic")
COLUMNS = ("question", "answer", "rephrasings", "kind")
FEWEST = 5
QUOTE = "put text that holds the separator in quotation marks"
NEEDED = "name one column question and another answer, or say which with --question_column and --answer_column"


@dataclass(frozen=True)
class Entry:
    """A question, its answer, and other wordings of the question."""

    question: str
    answer: str
    rephrasings: Sequence[str] = ()

    @property
    def phrasings(self) -> list[str]:
        return [self.question, *self.rephrasings]


@dataclass(frozen=True)
class Faq:
    """
    An FAQ as its file has it.

    Attributes:
        unanswered: questions that it does not answer, each with its kind, `near-miss` or `off-topic`.
        notes: sentences on what was found out about the file.
    """

    entries: Sequence[Entry]
    unanswered: Sequence[tuple[str, str]]
    source: str
    sha256: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Asked:
    """Questions to ask a bot: the number of the entry that answers each, `None` where none does, and the kind."""

    questions: list[str] = field(default_factory=list)
    entries: list[int | None] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def add(self, question: str, entry: int | None, kind: str) -> None:
        self.questions.append(question)
        self.entries.append(entry)
        self.kinds.append(kind)

    def of(self, *kinds: str) -> "Asked":
        """Those of these kinds."""
        chosen = Asked()
        for question, entry, kind in zip(self.questions, self.entries, self.kinds):
            if kind in kinds:
                chosen.add(question, entry, kind)
        return chosen


@dataclass(frozen=True)
class FaqSplit:
    """The entries without the phrasings held out of them, and the questions to validate and to test with."""

    entries: list[Entry]
    validation: Asked
    test: Asked


def load_faq(
    data_file: str | os.PathLike | None = None,
    dataset_name: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
) -> Faq:
    """
    The FAQ in a file or a folder of any kind that `read_table` knows, or in a Hub data set.

    Args:
        question_column, answer_column: the columns, where they have other names than `question` and `answer`.

    Raises:
        InputError: when it cannot be read, naming the row and the column; when one question has two answers, or there
            are fewer than 5 answers.
    """
    table = read_table(data_file, dataset_name, keep_faulty=True)
    columns = find_columns(table, question_column, answer_column)
    entries, unanswered, seen, unused = [], [], {}, 0
    for (entry, kind), place in zip(_parse_rows(table, columns), table.places):
        known = [seen[text] for text in map(plain_words, entry.phrasings) if text in seen]
        for text in entry.phrasings:
            if plain_words(text) in seen:
                _require_same(text, entry.answer, *seen[plain_words(text)][:2], place)
        # The same question once more, with the same answer: what it adds are its other wordings.
        number = known[0][2] if plain_words(entry.question) in seen else len(entries)
        fresh = [text for text in entry.phrasings if plain_words(text) not in seen]
        seen |= {plain_words(text): (entry.answer, place, number) for text in fresh}
        if kind != ANSWERED:
            if plain_words(entry.question) in map(plain_words, fresh):
                unanswered.append((entry.question, kind))
            unused += len(entry.rephrasings)
        elif number == len(entries):
            entries.append(Entry(entry.question, entry.answer, fresh[1:]))
        else:
            entries[number] = replace(entries[number], rephrasings=[*entries[number].rephrasings, *fresh])
    if len(entries) < FEWEST:
        raise InputError(f"{table.source} has {len(entries)} answered questions; a bot needs at least {FEWEST}.")
    notes = [*table.notes]
    if unused:
        notes.append(f"{unused} rephrasings of questions to be refused are not used; give each a row of its own.")
    return Faq(entries, unanswered, table.source, table.sha256, notes)


def find_columns(table: Table, question_column: str | None = None, answer_column: str | None = None) -> dict[str, str]:
    """The columns of a table by what they hold; arguments and errors are those of `load_faq`."""
    columns = {str(name).strip().lower(): name for name in reversed(table.columns)}
    for name, chosen in (("question", question_column), ("answer", answer_column)):
        if chosen is not None and chosen not in table.columns:
            raise InputError(
                f"{table.source} has no column {chosen!r}; its columns are {', '.join(table.columns)}: choose with"
                f" --{name}_column."
            )
        columns |= {} if chosen is None else {name: chosen}
    if missing := [name for name in ("question", "answer") if name not in columns]:
        raise InputError(
            f"{table.source} has no column {' and no column '.join(missing)} (its columns are"
            f" {', '.join(table.columns)}); {NEEDED}."
        )
    return columns


def split(faq: Faq, seed: int) -> FaqSplit:
    """
    Holds rephrasings out of the training, and halves the unanswered questions. Of a question with four rephrasings or
    more, one is for validation and one for the test; of three with fewer, one gives one to validation, one to the
    test, and one keeps all.
    """
    draw = random.Random(seed)
    entries, held = list(faq.entries), (Asked(), Asked())
    turns = ((0,), (1,), ())
    order = draw.sample(range(len(entries)), len(entries))
    few = 0
    for number in order:
        left = draw.sample(list(entries[number].rephrasings), len(entries[number].rephrasings))
        if not left:
            continue
        parts = (0, 1) if len(left) >= 4 else turns[few % 3]
        few += len(left) < 4
        for part in parts:
            held[part].add(left.pop(), number, ANSWERED)
        kept = [text for text in entries[number].rephrasings if text in left]
        entries[number] = Entry(entries[number].question, entries[number].answer, kept)
    for kind in UNANSWERED:
        questions = [question for question, one in faq.unanswered if one == kind]
        for number, question in enumerate(draw.sample(questions, len(questions))):
            held[number % 2].add(question, None, kind)
    return FaqSplit(entries, *held)


def _parse_rows(table: Table, columns: Mapping[str, str]) -> list[tuple[Entry, str]]:
    """The rows as `_parse` gives them; the error names the first bad one, and counts the others."""
    parsed, errors = [], []
    for i, (row, place) in enumerate(zip(table.rows, table.places)):
        try:
            if i in table.faults:
                raise InputError(f"{place}: {table.faults[i]}; {QUOTE}.")
            parsed.append(_parse({name: row.get(columns[name]) for name in COLUMNS if name in columns}, place))
        except InputError as error:
            errors.append(str(error))
    if errors:
        others = f" {len(errors) - 1:,} other rows are bad too." if len(errors) > 2 else ""
        others = " Another row is bad too." if len(errors) == 2 else others
        raise InputError(f"{errors[0]}{others}")
    return parsed


def _parse(values: dict, place: str) -> tuple[Entry, str]:
    """A row as an entry, whose answer is "" if it is unanswered, and its kind; raises `InputError`."""
    question, answer = (_text(values.get(name), name, place) for name in ("question", "answer"))
    kind = _text(values.get("kind"), "kind", place).lower() or ANSWERED
    if kind not in (ANSWERED, *UNANSWERED):
        raise InputError(
            f"{place}: the column kind is {kind!r}; write {ANSWERED} (or nothing), {' or '.join(UNANSWERED)}. If that"
            f" is text of another column, {QUOTE}."
        )
    if not question:
        raise InputError(f"{place}: the column question is empty; write one, or remove the row.")
    if kind == ANSWERED and not answer:
        raise InputError(
            f"{place}: the column answer is empty; write one, or {' or '.join(UNANSWERED)} in a column kind if the"
            " question is to be refused."
        )
    if kind != ANSWERED and answer:
        raise InputError(f"{place}: a question of the kind {kind} has no answer; remove the kind or the answer.")
    given = values.get("rephrasings")
    given = given.split("|") if isinstance(given, str) else given or []
    if not isinstance(given, (list, tuple)):
        raise InputError(f"{place}: the column rephrasings must be a list of texts, or texts separated by |.")
    texts = [_text(text, "rephrasings", place) for text in given]
    fresh = {
        plain_words(text): text for text in reversed(texts) if text and plain_words(text) != plain_words(question)
    }
    return Entry(question, answer, list(reversed(fresh.values()))), kind


def _text(value, column: str, place: str) -> str:
    if value is None or value != value:  # NaN, of a data frame
        return ""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise InputError(f"{place}: the column {column} must be text, not a {type(value).__name__}.")
    if has_lone_surrogates(text := str(value).strip()):
        raise InputError(f"{place}: the column {column} holds half a character (a lone surrogate).")
    return text


def _require_same(text: str, answer: str, other: str, where: str, place: str) -> None:
    if answer != other:
        raise InputError(
            f"{place}: the question {text[:60]!r} has another answer in {where.rpartition(', ')[2]}; keep one of them."
            if answer and other
            else f"{place}: the question {text[:60]!r} is answered in one row and not in another"
            f" ({where.rpartition(', ')[2]}); keep one of them."
        )
