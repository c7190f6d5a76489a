"""
Texts with labels, from any table: which column is what, what is wrong with some rows, and the split into training,
validation and test sets, in which near-copies of a text are in one set.
"""

import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datasets import Dataset, DatasetDict

from ..utils.errors import InputError, UsageError
from ..utils.text import has_lone_surrogates, plain_words
from .columns import MOST_LABELS, as_text, find_columns
from .label_cells import SEPARATORS, marks_unlabelled, order_names, read_labels
from .stratification import stratified_folds
from .tables import HALF_CHARACTER, NO_TEXT, SPLIT_NAMES, TOO_WIDE, Table, describe_faults, read_table

OUTSIDE = -1  # the label of a text that has none of the names
PARTS = ("train", "validation", "test")
ALONE = "with a label that no other row has"
MOST_ALONE = 0.8  # share of such rows above which the column holds no labels
FOLDS, FEWEST = 10, 5  # two folds are the test set, one is the validation set; with fewer texts of a label fewer folds


@dataclass(frozen=True)
class LabelledTexts:
    """
    `labels[i]` is an index into `names`, or `OUTSIDE`; with `is_multi_label` a list of such indices, perhaps empty.
    `parts[i]` is "train", "validation" or "test", where the data has a split of its own. `notes` are sentences about
    what was found out, `left_out` is how many bad rows are not here.
    """

    texts: list[str]
    labels: list
    names: tuple[str, ...]
    source: str
    sha256: str
    is_multi_label: bool = False
    parts: list[str] | None = None
    notes: tuple[str, ...] = ()
    text_column: str | None = None
    label_column: str | None = None
    left_out: int = 0


def load_labelled_texts(
    data_file: str | os.PathLike | None = None,
    dataset_name: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    multi_label: bool = False,
    bad_rows: str = "fail",
    outside_labels: Sequence[str] = (),
) -> LabelledTexts:
    """
    The texts of a file, a folder of files or a Hub data set, and their labels: words or numbers, 2 to 1,000 of them.

    Args:
        multi_label: a text may have several labels: a list, or a cell in which they are separated by `|`, `;` or `,`.
        bad_rows: "fail", or "drop" to leave out rows without text or label, with more cells than the header, or with a
            label that no other row has.
        outside_labels: labels whose texts stand for all that the classifier does not know.

    Raises:
        InputError: when the data cannot be read, naming the row and the column.
    """
    if bad_rows not in ("fail", "drop"):
        raise UsageError(f"--bad_rows must be fail or drop, not {bad_rows!r}.")
    if outside_labels and multi_label:
        raise UsageError(
            "--outside_labels is for one label a text; with --multi_label such a text has no label at all."
        )
    table = read_table(data_file, dataset_name, keep_faulty=True, all_splits=True)
    text_column, label_column, notes = find_columns(table, text_column, label_column)
    notes = [*table.notes, *notes]
    parts = _given_parts(table, notes)
    texts = [as_text(row.get(text_column), table.places[i], text_column) for i, row in enumerate(table.rows)]
    labels = read_labels(table, label_column, multi_label, notes)
    is_used = [part is not None for part in parts] if parts else [True] * len(texts)
    faults = _find_faults(table, texts, labels, is_used, set(outside_labels))
    _report(table, faults, labels, bad_rows, notes, label_column, multi_label)
    kept = [i for i in range(len(texts)) if is_used[i] and i not in faults]
    names = order_names({name for i in kept for name in labels[i]}, table.class_names.get(label_column, ()))
    _check_names(names, table, label_column, outside_labels)
    _note_contradictions(table, texts, labels, kept, notes)
    if parts:
        _note_leaks(texts, parts, kept, notes)
    names = tuple(name for name in names if name not in outside_labels)
    index = {name: number for number, name in enumerate(names)}
    numbers = [sorted(index.get(name, OUTSIDE) for name in labels[i]) for i in kept]
    kept_parts = [parts[i] for i in kept] if parts else ["train"]
    return LabelledTexts(
        texts=[texts[i] for i in kept],
        labels=numbers if multi_label else [number for (number,) in numbers],
        names=names,
        source=table.source,
        sha256=table.sha256,
        is_multi_label=multi_label,
        parts=None if set(kept_parts) == {"train"} else kept_parts,
        notes=tuple(notes),
        text_column=text_column,
        label_column=label_column,
        left_out=len(faults),
    )


def normalize(text: str) -> str:
    """What near-copies share: words in lower case, digits masked, no punctuation; for mere symbols, the text."""
    return plain_words(re.sub(r"\d", "0", text))


def split(data: LabelledTexts, seed: int) -> DatasetDict:
    """
    Train, validation and test sets with columns `text` and `label`: an int, or with several labels a list of K floats,
    1.0 where the text has the label. Either the data's own sets, or 70, 10 and 20 % of each label with near-copies in
    one set; with 5 to 9 different texts of the rarest label a little less than that to train. Texts `OUTSIDE` of the
    labels are shared out over validation and test.

    Raises:
        InputError: for labels with too few different texts.
    """
    groups = [normalize(text) for text in data.texts]
    inside = [i for i, label in enumerate(data.labels) if label != OUTSIDE]
    outside = [i for i, label in enumerate(data.labels) if label == OUTSIDE]
    rows = _own_parts(data, inside, groups, seed) if data.parts else _new_parts(data, inside, groups, seed)
    _share_out(data, outside, groups, rows, seed)
    return DatasetDict({name: _subset(data, sorted(rows[name])) for name in PARTS})


def leaked_rows(splits: DatasetDict, part: str = "test") -> int:
    """How many rows of a part have a near-copy in the training set."""
    seen = {normalize(text) for text in splits["train"]["text"]}
    return sum(normalize(text) in seen for text in splits[part]["text"])


def _given_parts(table: Table, notes: list[str]) -> list[str | None] | None:
    """The part of each row, by a column `split`, the files' names or the splits of a Hub set; `None` of no use."""
    column = next((one for one in table.columns if one.lower() == "split"), None)
    given = table.splits
    if column and given is None:
        given = [SPLIT_NAMES.get(str(row.get(column)).strip().lower()) for row in table.rows]
        if None in given:
            row = given.index(None)
            raise InputError(
                f"{table.places[row]}: {column!r} is {table.rows[row].get(column)!r}; expected train, validation or"
                " test."
            )
    if given is None:
        return None
    if "train" not in given:
        raise InputError(f"{table.source} has the parts {', '.join(sorted(set(given)))}, and none is called train.")
    unused = sorted(set(given) - set(PARTS))
    notes += [f"The split {name} of {table.source} is not used." for name in unused]
    counts = Counter(part for part in given if part in PARTS)
    if len(counts) > 1:
        notes.append(f"The split is that of the data: {', '.join(f'{counts[name]} {name}' for name in counts)}.")
    return [part if part in PARTS else None for part in given]


def _find_faults(table: Table, texts, labels, is_used, outside: set[str]) -> dict[int, str]:
    """What is wrong with rows, by their index."""
    faults, has_unlabelled = {}, marks_unlabelled({name for names in labels for name in names or ()})
    for i, (text, names) in enumerate(zip(texts, labels)):
        if not is_used[i]:
            continue
        if i in table.faults:
            faults[i] = TOO_WIDE
        elif not text.strip():
            faults[i] = NO_TEXT
        elif has_lone_surrogates(text):
            faults[i] = HALF_CHARACTER
        elif names is None:
            faults[i] = "without a label"
        elif has_unlabelled and "-1" in names:
            faults[i] = "with the label -1, which stands for none"
    rare = True
    while rare:  # leaving out a row may leave another label with one
        rows = [i for i in range(len(texts)) if is_used[i] and i not in faults]
        counts = Counter(name for i in rows for name in labels[i])
        rare = {name for name, count in counts.items() if count == 1} - outside
        faults |= {i: ALONE for i in rows if rare & set(labels[i])}
    return faults


def _rare_labels(faults: dict[int, str], labels: list) -> dict[int, str]:
    """Of the rows whose label no other row has, that label, and the most frequent one of other case or spaces."""
    counts = Counter(name for names in labels for name in names or ())
    same = defaultdict(list)
    for name in counts:
        same[_plain(name)].append(name)
    found = {}
    for i in (i for i, fault in faults.items() if fault == ALONE):
        name = min(labels[i], key=counts.get)
        alike = max((one for one in same[_plain(name)] if one != name), key=counts.get, default=None)
        rows = alike and ("another row has" if counts[alike] == 1 else f"{counts[alike]:,} rows have")
        found[i] = repr(name) + (f", though {rows} {alike!r}" if alike else "")
    return found


def _plain(name: str) -> str:
    """What labels share that differ in letter case and spaces alone."""
    return "".join(name.casefold().split())


def _hint_of_several(names: Iterable[str], multi_label: bool) -> str:
    """A sentence where cells seem to hold several labels, though a text may have one; else ""."""
    names = set() if multi_label else set(names)
    for name in sorted(names):
        for separator in SEPARATORS:
            parts = [part.strip() for part in name.split(separator)]
            if len(parts) > 1 and all(parts) and names & set(parts):
                return f" {name!r} seems to hold several labels: give --multi_label true."
    return ""


def _report(
    table: Table, faults: dict[int, str], labels: list, bad_rows: str, notes: list[str], column: str, multi_label: bool
) -> None:
    """Raises `InputError` for bad rows, or notes that they are left out."""
    if not faults:
        return
    alone = sum(fault == ALONE for fault in faults.values())
    if alone > MOST_ALONE * len(table.rows):
        hint = _hint_of_several((name for names in labels for name in names or ()), multi_label)
        raise InputError(
            f"{alone:,} of {len(table.rows):,} rows of {table.source} have a {column!r} that no other row has: is this"
            f" the label column? Choose another with --label_column.{hint}"
        )
    found = describe_faults(table, faults, _rare_labels(faults, labels))
    if bad_rows == "fail":
        hint = _hint_of_several((name for names in labels for name in names or ()), multi_label) if alone else ""
        raise InputError(f"{found}; mend them, or leave them out with --bad_rows drop.{hint}")
    if len(faults) == len(table.rows):
        raise InputError(f"{found}; none is left.")
    notes.append(f"{found}; they are left out.")


def _check_names(names: Sequence[str], table: Table, column: str, outside_labels: Sequence[str]) -> None:
    unknown = [name for name in outside_labels if name not in names]
    shown = ", ".join(names[:20]) + ("..." if len(names) > 20 else "")
    if unknown:
        raise InputError(f"--outside_labels: no text has the label {unknown[0]!r}; the labels are {shown}.")
    inside = len(names) - len(set(outside_labels))
    if inside < 2:
        raise InputError(f"A classifier needs two labels, and {column!r} of {table.source} has {inside} ({shown}).")
    if inside > MOST_LABELS:
        raise InputError(
            f"The column {column!r} of {table.source} has {inside:,} different values, more than {MOST_LABELS:,}"
            " labels; choose another with --label_column."
        )


def _note_contradictions(table: Table, texts, labels, kept: Sequence[int], notes: list[str]) -> None:
    """Notes the same text with different labels, and labels that differ in letter case alone."""
    first, others = {}, []
    for i in kept:
        if sorted(labels[first.setdefault(texts[i], i)]) != sorted(labels[i]):
            others.append((first[texts[i]], i))
    if others:
        places = " and ".join(table.places[i] for i in others[0])
        count = "A text has" if len(others) == 1 else f"{len(others)} texts have"
        notes.append(f"{count} different labels in different rows, such as {places}.")
    names = {name for i in kept for name in labels[i]}
    same = Counter(name.lower() for name in names)
    for name in sorted(name for name, count in same.items() if count > 1):
        alike = " and ".join(repr(one) for one in sorted(names) if one.lower() == name)
        notes.append(f"The labels {alike} differ in letter case alone, and are different labels.")


def _note_leaks(texts, parts, kept: Sequence[int], notes: list[str]) -> None:
    """Notes how many texts of the data's own validation and test sets have a near-copy in its training set."""
    seen = {normalize(texts[i]) for i in kept if parts[i] == "train"}
    leaked = Counter(parts[i] for i in kept if parts[i] != "train" and normalize(texts[i]) in seen)
    notes += [f"Near-copies of training texts: {leaked[name]} in {name}." for name in PARTS if leaked[name]]


def _new_parts(data: LabelledTexts, rows: Sequence[int], groups: Sequence[str], seed: int) -> dict[str, list[int]]:
    """A new split, near-copies together and every label in every part."""
    number = _number_of_folds(data, rows, groups, FEWEST)
    folds = _folds(data, rows, groups, number, seed)
    test = max(1, round(number * 2 / FOLDS))
    return {
        "test": [i for fold in folds[:test] for i in fold],
        "validation": folds[test],
        "train": [i for fold in folds[test + 1 :] for i in fold],
    }


def _own_parts(data: LabelledTexts, inside: Sequence[int], groups: Sequence[str], seed: int) -> dict[str, list[int]]:
    """The split of the data; a part that it lacks is taken from train, validation as the test set before that."""
    rows = {name: [i for i in inside if data.parts[i] == name] for name in PARTS}
    if not rows["test"]:
        rows["test"], rows["validation"] = rows["validation"], []
    if not rows["test"]:
        return _new_parts(data, inside, groups, seed)
    _require_known(data, rows)
    if not rows["validation"]:
        folds = _folds(data, rows["train"], groups, _number_of_folds(data, rows["train"], groups, 2), seed)
        rows["validation"], rows["train"] = folds[0], sorted(i for fold in folds[1:] for i in fold)
    return rows


def _require_known(data: LabelledTexts, rows: dict[str, list[int]]) -> None:
    """Raises `InputError` for a label that is measured but cannot be learned."""
    known = {label for i in rows["train"] for label in _labels_of(data, i)}
    for name in ("validation", "test"):
        for i in rows[name]:
            if unknown := set(_labels_of(data, i)) - known:
                label = data.names[min(unknown)]
                raise InputError(
                    f"No text of train has the label {label!r}, and one of {name} has it; move some there."
                )


def _share_out(data: LabelledTexts, outside: Sequence[int], groups, rows: dict[str, list[int]], seed: int) -> None:
    """Adds the texts outside of the labels to validation and test: where they are by the data, or half to each."""
    if data.parts and {"validation", "test"} <= set(data.parts):
        for i in outside:
            if data.parts[i] != "train":
                rows[data.parts[i]].append(i)
        outside = [i for i in outside if data.parts[i] == "train"]
    copies = defaultdict(list)
    for i in outside:
        copies[groups[i]].append(i)
    order = sorted(copies)
    random.Random(seed).shuffle(order)
    if outside and not data.parts and len(order) < 2:
        raise InputError(
            "The outside labels need at least 2 different texts, one to fit the answer and one to test it."
        )
    for number, group in enumerate(order):
        rows["test" if number % 2 else "validation"] += copies[group]


def _labels_of(data: LabelledTexts, row: int) -> Sequence[int]:
    return data.labels[row] if data.is_multi_label else [data.labels[row]]


def _number_of_folds(data: LabelledTexts, rows: Sequence[int], groups: Sequence[str], fewest: int) -> int:
    """As many folds as the rarest label has different texts, at most `FOLDS`."""
    different = defaultdict(set)
    for i in rows:
        for label in _labels_of(data, i):
            different[label].add(groups[i])
    counts = {name: len(different[label]) for label, name in enumerate(data.names)}
    rare = sorted((count, name) for name, count in counts.items() if count < fewest)
    if rare:
        shown = ", ".join(f"{name!r} has {count}" for count, name in rare[:5])
        raise InputError(
            f"A split needs at least {fewest} different texts of each label, near-copies counted once, and {shown}"
            f"{f' (and {len(rare) - 5} more labels have too few)' if len(rare) > 5 else ''}; add texts, or give these"
            f" rows another label.{_hint_of_several(data.names, data.is_multi_label)}"
        )
    return min(FOLDS, *counts.values())


def _folds(data: LabelledTexts, rows: Sequence[int], groups, number: int, seed: int) -> list[list[int]]:
    labels = [_labels_of(data, i) for i in rows]
    folds = stratified_folds(labels, [groups[i] for i in rows], number, seed)
    return [[rows[i] for i in fold] for fold in folds]


def _subset(data: LabelledTexts, rows: Sequence[int]) -> Dataset:
    labels = [data.labels[i] for i in rows]
    if data.is_multi_label:
        labels = [[float(number in one) for number in range(len(data.names))] for one in labels]
    return Dataset.from_dict({"label": labels, "text": [data.texts[i] for i in rows]})
