import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_gpt_scratch.data.columns import read_texts
from hf_gpt_scratch.data.delimited import LABEL_NAMES, TEXT_NAMES
from hf_gpt_scratch.data.labelled_texts import (
    load_labelled_texts,
    split,
)
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.labelled_tables import ROWS, pairs, word, write

# Columns


@pytest.mark.parametrize(
    "header, columns",
    [
        (("text", "label"), ("text", "label")),
        (("topic", "Message"), ("Message", "topic")),
        (("text", "kind"), ("text", "kind")),
        (("story", "category"), ("story", "category")),
        (("story", "kind"), ("story", "kind")),
        (("kind", "story"), ("story", "kind")),
    ],
)
def test_columns_are_found_by_a_name_or_by_their_values_and_said(tmp_path, header, columns):
    rows = [row if header.index(columns[0]) == 0 else row[::-1] for row in ROWS]
    data = load_labelled_texts(write(tmp_path / "t.csv", rows, header))
    assert (data.text_column, data.label_column) == columns
    assert data.texts == [text for text, _ in ROWS] and data.labels == [0, 0, 1, 1]
    assert f"{columns[0]!r}, the labels in {columns[1]!r}" in data.notes[-1]


def test_an_id_is_neither_text_nor_label(tmp_path):
    path = write(tmp_path / "t.csv", [(i, *row) for i, row in enumerate(ROWS)], ("id", "text", "answer"), ";")
    data = load_labelled_texts(path)
    assert data.texts[2] == "where is it" and data.names == ("billing", "delivery")


@pytest.mark.parametrize(
    "header, rows, column",
    [
        (("ticket", "message", "label"), lambda i, text, label: (1000 + i, text, label), "message"),
        (("ticket", "message", "label"), lambda i, text, label: (f"T-{i}", text, label), "message"),
        (("ticket", "note", "label"), lambda i, text, label: (f"2026-01-0{i} 10:00", text, label), "note"),
        (("question", "comment", "label"), lambda i, text, label: ("How was it?", text, label), "comment"),
        (("ticket", "label"), lambda i, text, label: (i, label), "ticket"),
    ],
)
def test_a_column_of_ids_or_of_few_values_is_not_that_of_the_texts(tmp_path, header, rows, column):
    path = write(tmp_path / "t.csv", [rows(i, *row) for i, row in enumerate(ROWS * 3)], header)
    data = load_labelled_texts(path)
    assert (data.text_column, data.label_column) == (column, "label")
    if column in TEXT_NAMES:
        assert read_texts(path) == data.texts


def test_the_page_lists_the_names_of_columns():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for names in (TEXT_NAMES, LABEL_NAMES):
        assert ", ".join(f"`{name}`" for name in names) in page


@pytest.mark.parametrize(
    "header, options, complaint",
    [
        (
            ("a", "b", "c"),
            {},
            "the texts and which the labels: 'a', 'b', 'c'; say so with --text_column and --label_co",
        ),
        (("text", "b", "c"), {}, "the labels: 'b', 'c'; say so with --label_column"),
        (("message", "body", "label"), {}, "the texts.*--text_column"),
        (("text", "b", "label"), {"text_column": "words"}, "no column 'words'; its columns are 'text', 'b', 'label'"),
        (("text", "b", "label"), {"label_column": "text", "text_column": "text"}, "cannot both be in 'text'"),
    ],
)
def test_columns_that_are_not_clear_are_listed(tmp_path, header, options, complaint):
    path = write(tmp_path / "t.csv", [(text, text, label) for text, label in ROWS], header)
    with pytest.raises(InputError, match=complaint):
        load_labelled_texts(path, **options)


def test_commas_without_quotation_marks_are_said(tmp_path):
    (tmp_path / "t.csv").write_text(
        "text,label\n" + "where is it, please, my parcel,delivery\n" * 3 + "refund,billing\n"
    )
    with pytest.raises(InputError, match="not have as many cells as its first row, 'text,label'; put .* in quotation"):
        load_labelled_texts(tmp_path / "t.csv")


def test_named_columns_are_taken(tmp_path):
    path = write(tmp_path / "t.csv", [(text, "x", label) for text, label in ROWS], ("a", "b", "c"))
    data = load_labelled_texts(path, text_column="a", label_column="c")
    assert data.texts[0] == "my bill" and data.notes == ()


def test_lines_of_label_tab_text_need_no_header(tmp_path):
    lines = ["ham\thi, you", 'spam\t"win', "ham\tsee you", "spam\tcall now", "ham\tok"]
    (tmp_path / "collection").write_text("\n".join(lines) + "\n")
    data = load_labelled_texts(tmp_path / "collection")
    assert data.names == ("ham", "spam") and data.labels == [0, 1, 0, 1, 0] and data.texts[1] == '"win'


def test_a_first_row_that_seems_to_be_data_is_not_swallowed(tmp_path):
    rows = [("hi", "ham"), ("win", "spam"), ("free", "spam"), ("you", "ham"), ("call", "spam")]
    path = write(tmp_path / "t.csv", rows, None)
    with pytest.raises(InputError, match="first row .* seems to be data"):
        load_labelled_texts(path)


# Labels


@pytest.mark.parametrize(
    "values, names",
    [
        ([0, 1, 1, 0], ("0", "1")),
        ([10, 9, 9, 10], ("9", "10")),
        ([-1, 1, 1, -1], ("-1", "1")),
        ([2.0, 1.0, 1.0, 2.0], ("1", "2")),
        ([True, False, False, True], ("false", "true")),
        (["b ", "a", "a", "b"], ("a", "b")),
        (["b\nc", "a", "a", "b  c"], ("a", "b c")),
        (["1", "01", "1", "01"], ("01", "1")),  # in one order in every process
    ],
)
def test_labels_are_words_or_numbers(tmp_path, values, names):
    rows = [{"text": word(i), "label": value} for i, value in enumerate(values)]
    (tmp_path / "t.json").write_text(json.dumps({"data": rows}))
    data = load_labelled_texts(tmp_path / "t.json")
    assert data.names == names and len(set(data.labels)) == 2


def test_class_names_keep_their_order():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["world", "art"])})
    rows = Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [0, 1, 1, 0]}, features=features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_gpt_scratch.data.download.load_dataset", lambda name: DatasetDict(train=rows))
        data = load_labelled_texts(dataset_name="owner/news")
    assert data.names == ("world", "art") and data.labels == [0, 1, 1, 0] and data.parts is None


@pytest.mark.parametrize("kind", ["lists", "bars", "semicolons", "printed lists"])
def test_several_labels_a_text(tmp_path, kind):
    several = [["a", "b"], ["b"], ["a"], ["c", "a"], ["c"]]
    if kind == "lists":
        rows = [{"text": word(i), "label": labels} for i, labels in enumerate([*several, []])]
        (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
        data = load_labelled_texts(tmp_path / "t.jsonl", multi_label=True)
        assert data.labels.pop() == []  # a text without any of the labels
    else:
        join = {"bars": "|".join, "semicolons": "; ".join, "printed lists": str}[kind]
        path = write(tmp_path / "t.csv", [(word(i), join(labels)) for i, labels in enumerate(several)])
        data = load_labelled_texts(path, multi_label=True)
    assert data.is_multi_label and data.names == ("a", "b", "c")
    assert data.labels == [[0, 1], [1], [0], [0, 2], [2]]


def test_class_names_in_lists(tmp_path):
    features = Features({"text": Value("string"), "labels": List(ClassLabel(names=["joy", "anger"]))})
    rows = {"text": ["a", "b", "c", "d"], "labels": [[0], [0, 1], [1], []]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "t.parquet")
    data = load_labelled_texts(tmp_path / "t.parquet", multi_label=True)
    assert data.names == ("joy", "anger") and data.labels == [[0], [0, 1], [1], []]


@pytest.mark.parametrize(
    "labels, options, complaint",
    [
        (["a"] * 4, {}, "needs two labels, and 'label' .* has 1 .a."),
        ([["a"], ["b"], ["a"], ["b"]], {}, "t.json, row 1: 'label' holds a list; give --multi_label"),
        ([[0, 1], [1, 0]] * 2, {"multi_label": True}, "rows of 0 and 1"),
        ([{"a": 1}] * 4, {}, "holds objects"),
        (["a", "b"] * 2, {"outside_labels": ["c"]}, "no text has the label 'c'; the labels are a, b"),
        (["a", "b"] * 2, {"outside_labels": ["b"]}, "needs two labels"),
        (["a", "b"] * 2, {"outside_labels": ["b"], "multi_label": True}, "outside_labels"),
        (["a", "b"] * 2, {"bad_rows": "keep"}, "fail or drop"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path, labels, options, complaint):
    rows = [{"text": word(i), "label": label} for i, label in enumerate(labels)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=complaint):
        load_labelled_texts(tmp_path / "t.json", **options)


def test_more_labels_than_a_classifier_can_have(tmp_path):
    rows = [(f"{word(i)} {j}", word(i)) for i in range(1001) for j in range(2)]
    with pytest.raises(InputError, match="1,001 different values, more than 1,000"):
        load_labelled_texts(write(tmp_path / "t.csv", rows))


# Bad rows


def test_bad_rows_are_counted_and_named_and_can_be_left_out(tmp_path):
    path = write(tmp_path / "t.csv", [*ROWS, ("", "billing"), (" ", "billing"), ("no label", ""), ("x", "a", "b")])
    message = (
        "4 of 8 rows of .*t.csv are bad: 2 without text .row 6, row 7.; 1 without a label .row 8.; 1 with more cells"
        " than the header .row 9.; mend them, or leave them out with --bad_rows drop."
    )
    with pytest.raises(InputError, match=message):
        load_labelled_texts(path)
    data = load_labelled_texts(path, bad_rows="drop")
    assert data.texts == [text for text, _ in ROWS] and data.left_out == 4
    assert "4 of 8 rows" in data.notes[-1] and "left out" in data.notes[-1]


def test_only_the_first_rows_of_many_are_named(tmp_path):
    path = write(tmp_path / "t.csv", ROWS + [("", "billing")] * 9)
    with pytest.raises(InputError, match="9 without text .row 6, row 7, row 8 and 6 more."):
        load_labelled_texts(path)


def test_a_label_seen_once_is_a_bad_row_also_where_another_bad_row_made_it_so(tmp_path):
    path = write(tmp_path / "t.csv", [*ROWS, ("what", "once"), ("", "twice"), ("well", "twice")])
    with pytest.raises(InputError, match="2 with a label that no other row has .row 6: 'once', row 8: 'twice'."):
        load_labelled_texts(path)
    assert load_labelled_texts(path, bad_rows="drop").names == ("billing", "delivery")


def test_a_label_seen_once_is_told_with_the_one_that_may_be_meant(tmp_path):
    path = write(tmp_path / "t.csv", [*ROWS, ("my bill", "Billing")])
    with pytest.raises(InputError, match="no other row has .row 6: 'Billing', though 2 rows have 'billing'.;"):
        load_labelled_texts(path)
    write(path, [*ROWS, ("my bill", "BILLING"), ("a bill", "Bil ling")])  # the frequent one, not the other single
    with pytest.raises(
        InputError, match="row 6: 'BILLING', though 2 rows have 'billing', row 7: 'Bil ling', though 2"
    ):
        load_labelled_texts(path)


def test_a_column_of_texts_is_not_taken_for_that_of_the_labels(tmp_path):
    path = write(tmp_path / "t.csv", [(*row, f"id {i}") for i, row in enumerate(ROWS)], ("text", "topics", "label"))
    for bad_rows in ("fail", "drop"):
        with pytest.raises(
            InputError, match="4 of 4 rows of .* have a 'label' that no other .* is this the label col"
        ):
            load_labelled_texts(path, bad_rows=bad_rows)


@pytest.mark.parametrize("each", [1, 2])
def test_cells_of_several_labels_are_told_with_what_to_do(tmp_path, each):
    path = write(tmp_path / "t.csv", [*pairs(2), *((f"both {word(i)}", "topic a; topic b") for i in range(each))])
    with pytest.raises(InputError, match="'topic a; topic b' seems to hold several labels: give --multi_label true"):
        split(load_labelled_texts(path), seed=1)
    assert split(load_labelled_texts(path, multi_label=True), seed=1)


def test_a_row_that_is_left_out_may_leave_a_label_with_one_row(tmp_path):
    rows = [("one", "a|once"), ("two", "a"), ("three", "b|c"), ("four", "c"), ("five", "b")]
    data = load_labelled_texts(write(tmp_path / "t.csv", rows), multi_label=True, bad_rows="drop")
    assert data.texts == ["three", "four", "five"] and data.names == ("b", "c")


@pytest.mark.parametrize("others", [(0, 1), ("ham", "spam")])
def test_minus_one_beside_zero_or_words_is_no_label(tmp_path, others):
    path = write(tmp_path / "t.csv", [*((word(i), others[i % 2]) for i in range(6)), ("?", -1), ("!", -1)])
    with pytest.raises(InputError, match="2 with the label -1, which stands for none .row 8, row 9."):
        load_labelled_texts(path)
    assert len(load_labelled_texts(path, bad_rows="drop").texts) == 6


def test_a_message_with_a_line_break_is_one_row(tmp_path):
    data = load_labelled_texts(write(tmp_path / "t.csv", [("two\nlines,\r\nor three", "delivery"), *ROWS]))
    assert data.texts[0] == "two\nlines,\r\nor three" and len(data.texts) == 5


def test_contradictions_are_noted(tmp_path):
    path = write(tmp_path / "t.csv", [*ROWS, ("my bill", "delivery"), ("ok", "Billing"), ("well", "Billing")])
    notes = " ".join(load_labelled_texts(path).notes)
    assert "A text has different labels in different rows, such as t.csv, row 2 and t.csv, row 6." in notes
    assert "'Billing' and 'billing' differ in letter case alone" in notes


def test_usage_errors_are_of_their_kind():
    with pytest.raises(UsageError):
        load_labelled_texts("t.csv", bad_rows="keep")


@pytest.mark.parametrize(
    "rows", ['[{"text": "a", "label": [["x"]]}, {"text": "b", "label": ["y"]}]', "[]", "\t\t\n \t\n"]
)
def test_lists_of_lists_and_nothing_but_tabs_are_refused(tmp_path, rows):
    path = tmp_path / ("a.json" if rows[0] == "[" else "a.csv")
    path.write_text(rows)
    with pytest.raises(InputError, match=r"a\.(json|csv)"):
        load_labelled_texts(path, multi_label=True)


def test_lists_of_numbers_and_words_are_labels(tmp_path):
    rows = [{"text": f"{n}", "label": [1.5, "x"]} for n in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert load_labelled_texts(tmp_path / "a.json", multi_label=True).names == ("1.5", "x")
