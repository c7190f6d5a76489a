import csv
import io
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hf_gpt_scratch.data.delimited import decode
from hf_gpt_scratch.data.first_look import look
from hf_gpt_scratch.data.tables import read_table
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.provenance import sha256

ROWS = [
    {"text": 'she said "no", twice', "label": "a"},
    {"text": "two\nlines", "label": "NA"},
    {"text": "null", "label": ""},
    {"text": "café ☕; tab\there", "label": "b"},
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(rows=ROWS, **settings) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys(), **settings)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_delimiter_encoding_and_line_end_gives_the_same_rows(tmp_path, delimiter, encoding, line_end):
    content = as_csv(delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).encode(encoding)
    table = read_table(write(tmp_path / "tickets.csv", content))
    assert table.rows == ROWS and table.columns == ["text", "label"]
    assert table.places[2] == "tickets.csv, row 4"  # as a spreadsheet counts: the header is row 1
    assert table.sha256 == sha256(tmp_path / "tickets.csv")


@pytest.mark.parametrize(
    "text",
    [
        "win a prize",
        "выиграй приз, сейчас\nпривет\n",
        "你好世界\n上海\n",
        "一つ　二\n三",
        '{"текст":"приз","метка":"спам"}',
        "приз\rвесть\r",
        "ਸਤਿ,ਸ੍ਰੀ\nਅਕਾਲ,ਜੀ\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_known_by_its_nuls_and_separators(text, encoding):
    assert decode(text.encode(encoding), "t.txt") == (text, encoding)


@pytest.mark.parametrize(
    "text", ["hello\0world\nsee you at home\nbye\n", "\0" * 2000, "a\0\nb\0\n", "a,b\n\0,c\n", "long " * 99 + "\0"]
)
def test_a_nul_is_a_character(text):
    assert decode(text.encode(), "t.txt") == (text, "utf-8")
    with pytest.raises(InputError, match="t.txt is not UTF-8 text"):
        decode(text.encode() + b"\n\xed\xa0\x80\n", "t.txt")


def test_what_was_found_out_is_said(tmp_path):
    content = as_csv(delimiter=";").encode("utf-16")
    notes = read_table(write(tmp_path / "t.csv", content)).notes
    assert notes == ["t.csv was read as utf-16.", "The cells of t.csv are separated by semicolons."]
    assert read_table(write(tmp_path / "usual.csv", as_csv())).notes == []


def test_an_older_encoding_is_guessed_and_said(tmp_path):
    text = "id;text\n" + "".join(f"{i};Die Lösung wäre schön, Herr Müller, größer geht es nicht\n" for i in range(20))
    table = read_table(write(tmp_path / "old.csv", text.encode("cp1252")))
    assert table.rows[3] == {"id": "3", "text": "Die Lösung wäre schön, Herr Müller, größer geht es nicht"}
    assert "was read as cp125" in table.notes[0]


@pytest.mark.parametrize(
    "encoding, text",
    [
        ("cp1252", "Perché il pacco non è arrivato? Così non va più,a\nÈ già la terza volta,b\n"),
        ("cp1250", "Paczka nie dotarła na czas, proszę o pomoc,dostawa\nŻądam zwrotu pieniędzy,zwrot\n"),
        ("cp1251", "Посылка не пришла вовремя,доставка\nНе могу войти в аккаунт,вход\n"),
        ("shift_jis", "荷物が届きません。,配送\n"),
    ],
)
def test_few_rows_of_a_spreadsheet_are_read_in_their_encoding(encoding, text):
    assert decode(text.encode(encoding) * 4, "t.csv") == (text * 4, encoding)


def test_a_column_of_messages_keeps_their_commas(tmp_path):
    table = read_table(write(tmp_path / "m.csv", 'message\nHello, how are you?\n"Fine, thanks"\nOk\n'))
    assert [row["message"] for row in table.rows] == ["Hello, how are you?", "Fine, thanks", "Ok"]


def test_quotation_marks_of_tab_separated_lines_are_text(tmp_path):
    lines = ['ham\t"hi', "ham\tyou", 'spam\tend"', "ham\tfine"]
    table = read_table(write(tmp_path / "sms", "\n".join(lines) + "\n"))
    assert [list(row.values()) for row in table.rows] == [line.split("\t") for line in lines]
    assert table.columns == ["column 1", "column 2"] and not table.has_header
    assert "no header" in table.notes[-1] and "read as text" in table.notes[-2]


def test_a_header_with_a_usual_name_is_one_also_where_its_other_name_is_a_label(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "text,spam\nhi,ham\nwin,spam\nprize,spam\n"))
    assert table.columns == ["text", "spam"] and len(table.rows) == 3
    table = read_table(write(tmp_path / "t", "question\thow?\ncomment\tno\nquestion\twhy?\nquestion\twho?\n"))
    assert not table.has_header and len(table.rows) == 4


def test_rows_of_empty_cells_are_counted(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "text,label\n\nhi,a\n,\nyou,b\n , \n"))
    assert [row["text"] for row in table.rows] == ["hi", "you"] and table.places[1] == "t.csv, row 5"
    assert table.notes == ["Rows of t.csv without any text are left out: 2."]


def test_empty_lines_are_no_rows_and_short_rows_have_empty_cells(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "text,label\n\nhi,a\nyou\n"))
    assert table.rows == [{"text": "hi", "label": "a"}, {"text": "you", "label": ""}]
    assert table.places == ["t.csv, row 3", "t.csv, row 4"]


def test_a_row_of_more_cells_than_the_header_is_named(tmp_path):
    path = write(tmp_path / "t.csv", "text,label\nhi,a\nhi, you,a\nyou,b\n")
    with pytest.raises(InputError, match="t.csv, row 3: it has 3 cells, and the header has 2"):
        read_table(path)
    table = read_table(path, keep_faulty=True)
    assert list(table.faults) == [1] and len(table.rows) == 3


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", "text,label\n", "has no rows"),
        ("t.csv", 'text,label\nhi,a\n"you,there,a\nthey,b\n', "row 3 .from line 3 on.: its quotation marks"),
        ("t.csv", 'text\n"two\nlines"\n"stray\n', "row 3 .from line 4 on.: its quotation marks"),
        ("t.csv", "text,text\nhi,a\n", "2 columns of the name 'text'"),
        ("t.csv", b"PK\x03\x04xyz", "zip or Excel file"),
        ("t.csv", b"\xff\xfeh\0i", "is not UTF-16|has no rows"),
        ("t.json", "[1", "not valid JSON"),
        ("t.json", "3", "list of objects, not a int"),
        ("t.json", '[{"a": 1}, 2]', "t.json, row 2: expected an object"),
        ("t.json", '{"a": [{"x": 1}], "b": [{"x": 2}]}', "the lists 'a', 'b'"),
        ("t.jsonl", '{"a": 1}\n{"a":\n', "t.jsonl, line 2: not a JSON object"),
        ("t.parquet", "PAR1 no", "not a Parquet file"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, name, content, complaint):
    with pytest.raises(InputError, match=complaint):
        read_table(write(tmp_path / name, content))


def test_sources_that_are_missing_or_two(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="not both"):
        read_table("a.csv", "owner/name")
    with pytest.raises(InputError, match="holds no file"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    "name, content",
    [
        ("t.json", json.dumps(ROWS)),
        ("t.json", json.dumps({"version": 1, "data": ROWS})),
        ("t.json", "\n".join(map(json.dumps, ROWS))),
        ("t.jsonl", "\n\n".join(map(json.dumps, ROWS))),
        ("t", json.dumps(ROWS)),
    ],
    ids=["list", "a key", "lines in .json", "lines", "no suffix"],
)
def test_json_in_each_shape(tmp_path, name, content):
    table = read_table(write(tmp_path / name, content))
    assert table.rows == ROWS
    assert (table.notes == ["The rows of t.json are those of its key 'data'."]) == ("version" in content)


def test_a_conversation_is_a_row_and_not_a_list_of_rows(tmp_path):
    row = {"messages": [{"role": "user", "content": "hi"}]}
    assert read_table(write(tmp_path / "t.json", json.dumps(row))).rows == [row]


def test_parquet_with_class_names(tmp_path):
    features = Features({"sms": Value("string"), "label": ClassLabel(names=["ham", "spam"])})
    rows = Dataset.from_dict({"sms": ["hi", "win", "?"], "label": [0, 1, -1]}, features=features)
    rows.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert [row["label"] for row in table.rows] == ["ham", "spam", None]
    assert table.class_names == {"label": ("ham", "spam")}
    pd.DataFrame({"text": ["a"], "n": [2]}).to_parquet(tmp_path / "p.parquet")
    assert read_table(tmp_path / "p.parquet").rows == [{"text": "a", "n": 2}]


def test_a_folder_in_a_folder_that_just_vanishes_is_passed_over(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_text("text,label\nwin,spam\n")
    scan = os.scandir

    def vanishing(path):
        if str(path).endswith("b"):
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    seen = []
    look(tmp_path, seen.append)
    monkeypatch.undo()
    assert [table.rows for table in seen] == [read_table(tmp_path).rows] and len(seen[0].rows) == 2


def test_a_folder_is_its_files_and_their_names_are_parts(tmp_path):
    for name in ("train", "validation", "test"):
        write(tmp_path / f"{name}-00000.csv", as_csv())
    write(tmp_path / "README.md", "# about")
    table = read_table(tmp_path)
    assert table.splits == [name for name in ("test", "train", "validation") for _ in ROWS]
    assert len(table.rows) == 12 and table.places[4] == "train-00000.csv, row 2"
    write(tmp_path / "more.csv", as_csv())
    assert read_table(tmp_path).splits is None
    write(tmp_path / "more.csv", "text,topic\nhi,a\n")
    with pytest.raises(InputError, match="must have the same"):
        read_table(tmp_path)
    write(tmp_path / "more.jsonl", "{}")
    with pytest.raises(InputError, match="files of the kinds .csv, .jsonl"):
        read_table(tmp_path)


def test_hub_sets_by_their_training_split_or_all(monkeypatch):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    sets = DatasetDict({"train": rows, "dev": rows})
    monkeypatch.setattr(
        "hf_gpt_scratch.data.download.load_dataset", lambda name, split=None: sets[split] if split else sets
    )
    assert read_table(dataset_name="owner/name").rows == [{"text": "a", "label": "yes"}, {"text": "b", "label": "no"}]
    table = read_table(dataset_name="owner/name", all_splits=True)
    assert table.splits == ["train", "train", "validation", "validation"]
    assert table.places[3] == "owner/name, split dev, row 2"
