"""`classify` on tables and of more than two labels: rows stay rows, columns are kept, what is said is added."""

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from hf_gpt_scratch import TextClassifier
from hf_gpt_scratch.classification import classifier as classifiers
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.commands import classify_output
from hf_gpt_scratch.data.tables import read_table
from hf_gpt_scratch.utils.errors import InputError
from support.classifiers import TEXTS, save_classifier
from support.commands import USING

EARLY = {"0.9": {"threshold": 0.57}}
KINDS = {
    "four": {"calibration": {"early": EARLY}},
    "outside": {"calibration": {"outside_threshold": 0.4}},
    "two": {"names": ("ham", "spam"), "calibration": {}},
    "several": {"problem_type": "multi_label_classification", "calibration": {"threshold": 0.45}},
    "last": {"long_texts": "last", "n_positions": 8},
    "windows": {"long_texts": "windows", "n_positions": 8},
}
MESSAGES = ["Dear team, the invoice, of May, is wrong", 'She said "no";\nsee you at home', "", "007; win a prize"]
ROWS = [{"id": f"00{number}", "ticket": text, "note": "a;b"} for number, text in enumerate(MESSAGES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    for kind, settings in KINDS.items():
        save_classifier(folder / kind, **settings)
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Runs `classify` with a classifier of that kind; returns its exit status, what it printed and complained."""
    monkeypatch.chdir(tmp_path)

    def run(kind: str, *words: str) -> tuple[int, str, str]:
        try:
            status = main(["classify", str(folder / kind), "--device", "cpu", *words])
        except SystemExit as bad_usage:
            status = bad_usage.code
        return status, *capsys.readouterr()

    return run


def write(name: str, rows=ROWS) -> str:
    """The rows in a file of that name, as other programs write it."""
    columns = list(rows[0])
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.table({one: [row[one] for row in rows] for one in columns}), name)
    elif "json" in name:
        Path(name).write_text("\n".join(json.dumps(row) for row in rows))
    else:
        delimiter = "\t" if name.endswith(".tsv") else ";" if "semicolons" in name else ","
        with open(name, "w", newline="", encoding="utf-16" if "utf16" in name else "utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([columns, *([row[one] for one in columns] for row in rows)])
    return name


def said(folder, kind: str, **settings) -> list:
    texts = [text for text in MESSAGES if text]
    found = iter(TextClassifier.from_pretrained(folder / kind, device="cpu").classify(texts, **settings))
    return [next(found) if text else None for text in MESSAGES]


INTO = [("t.csv", into) for into in ("out.csv", "out.tsv", "out.jsonl", "out.json", "out.parquet")]
FROM = [(source, "out.csv") for source in ("semicolons.csv", "utf16.csv", "t.tsv", "t.jsonl", "t.parquet")]


@pytest.mark.parametrize("source, into", [*INTO, *FROM])
def test_columns_and_rows_are_kept_and_labels_added(run, folder, source, into):
    status, printed, complained = run("four", "--file", write(source), "--output", into, "--decide_at", "0.9")
    assert status == 0, complained
    assert printed.startswith(f"{into}: 4 rows; ") and "note: 1 empty line was not classified." in complained
    assert "note: The texts are in the column 'ticket'." in complained
    table = read_table(into)
    assert table.columns == ["id", "ticket", "note", "label", "probability", "decided_at"]
    assert [{name: row[name] for name in ("id", "ticket", "note")} for row in table.rows] == ROWS
    for row, prediction in zip(table.rows, said(folder, "four", decide_at=0.9), strict=True):
        if prediction is None:
            assert not (row["label"] or row["probability"] or row["decided_at"])
            continue
        assert row["label"] == prediction.label
        assert float(row["probability"]) == pytest.approx(prediction.probability, abs=1e-6)
        assert (int(row["decided_at"]) if row["decided_at"] else None) == prediction.decided_at


def test_a_message_of_a_table_is_one_line_of_text(run, folder):
    status, printed, _ = run("four", "--file", write("semicolons.csv"))
    assert status == 0
    lines = [line.split("\t") for line in printed.splitlines()]
    assert [line[2] for line in lines] == [" ".join(text.splitlines()) for text in MESSAGES]
    assert [line[0] for line in lines] == [one.label if one else "-" for one in said(folder, "four")]
    records = [json.loads(line) for line in run("four", "--file", "semicolons.csv", "--json")[1].splitlines()]
    assert [record["text"] for record in records] == MESSAGES


def test_the_column_of_texts(run):
    write("two.csv", [{"subject": "win", "wish": "see you at home"}, {"subject": "a prize", "wish": "now"}])
    status, printed, complained = run("four", "--file", "two.csv", "--output", "out.csv")
    assert (status, printed, Path("out.csv").exists()) == (1, "", False) and "--text_column" in complained
    status, printed, _ = run("four", "--file", "two.csv", "--text_column", "wish")
    assert [line.split("\t")[2] for line in printed.splitlines()] == ["see you at home", "now"]


def test_the_column_that_the_classifier_was_trained_on(run, folder):
    (folder / "four" / "metrics.json").write_text(json.dumps({"data": {"text_column": "wish"}}))
    write("two.csv", [{"subject": "win", "wish": "see you at home"}, {"subject": "a prize", "wish": "now"}])
    status, printed, complained = run("four", "--file", "two.csv")
    (folder / "four" / "metrics.json").unlink()
    assert status == 0 and "The texts are in the column 'wish'." in complained
    assert [line.split("\t")[2] for line in printed.splitlines()] == ["see you at home", "now"]


def test_a_file_with_a_message_a_line_becomes_a_table(run):
    Path("messages.txt").write_text("win, a prize\n\nid;see you\n")
    assert run("four", "--file", "messages.txt", "--output", "out.csv")[0] == 0
    with open("out.csv", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["win, a prize", "", "id;see you"]


def test_columns_of_the_names_that_are_added_are_kept(run):
    rows = [{"text": text, "label": "mine"} for text in TEXTS]
    status, _, complained = run("four", "--file", write("own.csv", rows), "--output", "out.csv")
    assert status == 0 and "own.csv has a column 'label', so the new ones are predicted_label" in complained
    table = read_table("out.csv")
    assert table.columns == ["text", "label", "predicted_label", "predicted_probability"]
    assert {row["label"] for row in table.rows} == {"mine"}
    status, _, complained = run("four", "--file", "out.csv", "--output", "again.csv")
    assert status == 1 and "rename" in complained and not Path("again.csv").exists()


def test_a_first_row_that_is_no_header(run):
    Path("messages.csv").write_text("\n".join(TEXTS))
    status, printed, complained = run("four", "--file", "messages.csv")
    assert (status, printed) == (1, "") and "'win a free prize now', which may be a text" in complained
    Path("messages.xlsx").write_bytes(b"PK\x03\x04")
    assert "save the sheet as CSV" in run("four", "--file", "messages.xlsx")[2]


BAD = {
    "the input itself": (["--file", "t.csv", "--output", "./t.csv"], "would overwrite t.csv"),
    "no kind of file": (["--file", "t.csv", "--output", "out.xlsx"], "ends in .csv"),
    "no folder": (["--file", "t.csv", "--output", "none/out.csv"], "no folder none"),
    "no file": (["see you", "--output", "out.csv"], "--output is for the rows of a --file"),
    "lines too": (["--file", "t.csv", "--output", "out.csv", "--json"], "give one of them"),
}


@pytest.mark.parametrize("words, complaint", BAD.values(), ids=BAD)
def test_bad_usage(run, words, complaint):
    before = Path(write("t.csv")).read_bytes()
    status, printed, complained = run("four", *words)
    assert (status, printed) == (2, "") and complaint in complained
    assert Path("t.csv").read_bytes() == before and [path.name for path in Path().iterdir()] == ["t.csv"]


def test_nothing_is_written_when_a_row_fails(run, monkeypatch):
    Path("out.csv").write_text("kept")

    def fail(*_):
        raise InputError("The disk is full.")

    monkeypatch.setattr(classifiers, "read_in_batches", fail)
    assert run("four", "--file", write("t.csv"), "--output", "out.csv")[0] == 1
    assert Path("out.csv").read_text() == "kept"
    Path("wide.csv").write_text("text,note\nwin,1\nsee you, at home,2\n")
    status, _, complained = run("four", "--file", "wide.csv", "--output", "out.csv")
    assert status == 1 and "wide.csv, row 3: it has 3 cells, and the header has 2" in complained


def test_bad_rows_keep_their_place_without_a_label(run):
    lines = ["text,note", "win,1", "see you, at home,2", ",3", "win a prize,4"]
    Path("wide.csv").write_text("\n".join(lines))
    status, _, complained = run("four", "--file", "wide.csv", "--output", "out.csv")
    assert status == 1 and "row 3: it has 3 cells" in complained and "--bad_rows drop" in complained
    status, _, complained = run("four", "--file", "wide.csv", "--output", "out.csv", "--bad_rows", "drop")
    assert status == 0 and "note: 1 empty line was not classified." in complained
    bad = "1 of 4 rows of wide.csv is bad: 1 with more cells than the header (row 3); they get no label"
    assert f"note: {bad}, and have only the cells below it.\n" in complained
    rows = read_table("out.csv").rows
    assert [row["text"] for row in rows] == ["win", "see you", "", "win a prize"]
    assert [bool(row["label"]) for row in rows] == [True, False, False, True]
    lines = run("four", "--file", "wide.csv", "--bad_rows", "drop")[1].splitlines()
    assert [line.startswith("-\t-\t") for line in lines] == [False, True, True, False]


def test_bad_rows_of_json(run):
    rows = [{"text": "win"}, {"text": ["win"]}, {"text": "half \ud83d"}]
    Path("t.json").write_text(json.dumps(rows))
    assert "t.json, row 2: 'text' must be text, not a list" in run("four", "--file", "t.json")[2]
    status, _, complained = run("four", "--file", "t.json", "--output", "out.json", "--bad_rows", "drop")
    assert status == 0, complained
    assert "2 of 3 rows of t.json are bad: 1 without text (row 2); 1 with half a character" in complained
    labelled = json.loads(Path("out.json").read_text())
    assert [row["text"] for row in labelled] == [row["text"] for row in rows]
    assert [row["label"] is None for row in labelled] == [False, True, True]


LIKE = {
    "semicolons.csv": ("out.csv", ";", b"id"),
    "semicolons.txt.csv": ("out.tsv", "\t", b"id"),
    "t.tsv": ("out.csv", ",", b"id"),
    "t.jsonl": ("out.csv", ",", b"id"),
    "semicolons-utf16.csv": ("out.csv", ";", b"\xef\xbb\xbfid"),
}


@pytest.mark.parametrize("source", LIKE)
def test_a_table_is_written_as_spreadsheets_gave_it(run, source):
    into, delimiter, start = LIKE[source]
    assert run("four", "--file", write(source), "--output", into)[0] == 0
    written = Path(into).read_bytes()
    assert written.startswith(start) and written.decode("utf-8-sig").startswith(f"id{delimiter}ticket{delimiter}note")
    assert written.endswith(b"\r\n") == (not source.endswith(".jsonl"))  # the csv module ends lines so
    assert [row["ticket"] for row in read_table(into).rows] == MESSAGES


def test_several_labels_in_a_cell(run, folder):
    assert run("several", "--file", write("t.csv"), "--output", "out.csv")[0] == 0
    for row, prediction in zip(read_table("out.csv").rows, said(folder, "several"), strict=True):
        assert row["labels"] == ("|".join(prediction.labels) if prediction else "")
    assert run("several", "--file", "t.csv", "--output", "out.jsonl")[0] == 0
    rows = read_table("out.jsonl").rows
    assert [row["labels"] for row in rows] == [list(one.labels) if one else None for one in said(folder, "several")]


@pytest.mark.parametrize("kind", ["four", "outside", "several"])
def test_json_of_more_than_two_labels(run, folder, kind):
    status, printed, _ = run(kind, *TEXTS, "--json", "--stream")
    assert status == 0
    classifier = TextClassifier.from_pretrained(folder / kind, device="cpu")
    for line, prediction in zip(printed.splitlines(), classifier.classify(TEXTS), strict=True):
        record, labels = json.loads(line), {"labels": list(prediction.labels)} if kind == "several" else {}
        words = record.pop("words")
        probabilities = dict(zip(classifier.labels, prediction.probabilities))
        assert record.pop("probabilities") == pytest.approx(probabilities, abs=1e-5)
        assert record.pop("probability") == pytest.approx(prediction.probability, abs=1e-5)
        assert record == {"text": prediction.text, "label": prediction.label, "truncated": False, **labels}
        readings = classifier.read_words(prediction.text)
        assert [word["word"] for word in words] == prediction.text.split()
        assert [word["label"] for word in words] == [reading.label for reading in readings]


def test_stream_shows_the_winner_after_each_word_and_where_the_verdict_is_final(run, folder, monkeypatch):
    monkeypatch.setattr(classify_output, "OTHERS", ("<0>", "<1>", "<2>", "<3>"))
    monkeypatch.setattr(classify_output, "RESET", "")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    text = next(text for text, one in zip(TEXTS, run_json(run, "--decide_at", "0.9")) if one["decided_at"])
    status, printed, _ = run("four", text, "--stream", "--decide_at", "0.9")
    classifier = TextClassifier.from_pretrained(folder / "four", device="cpu")
    [prediction] = classifier.classify([text], decide_at=0.9)
    *words, verdict = printed.splitlines()
    for place, (line, reading) in enumerate(zip(words, classifier.read_words(text), strict=True), start=1):
        assert line.startswith(f"<{classifier.labels.index(reading.label)}>")
        assert f"{reading.probability:.1%}" in line and f" {reading.label} " in line
        assert line.endswith("<- " + f"{reading.label}, as good as final") == (place == prediction.decided_at)
    assert verdict.endswith(f"{prediction.label}\t{prediction.probability:.4f}\t{prediction.decided_at}\t{text}")


def test_stream_says_in_words_that_no_verdict_was_final_before_the_end(run):
    text = next(text for text, one in zip(TEXTS, run_json(run, "--decide_at", "0.9")) if not one["decided_at"])
    *others, last, verdict = run("four", text, "--stream", "--decide_at", "0.9")[1].splitlines()
    assert last.endswith(f"<- {verdict.split()[0]}, final not before the end") and not any(
        "<-" in one for one in others
    )
    assert verdict.endswith(f"\t-\t{text}") and "<-" not in run("four", text, "--stream")[1]


def run_json(run, *words: str) -> list[dict]:
    return [json.loads(line) for line in run("four", *TEXTS, "--json", *words)[1].splitlines()]


def test_an_early_verdict_that_was_not_fitted(run):
    for kind, complaint in {"two": "fit it with `hf-gpt-scratch calibrate", "four": "the model has 0.9."}.items():
        status, printed, complained = run(kind, "see you", "--decide_at", "0.5")
        assert (status, printed) == (1, "") and complaint in complained


def test_what_is_outside_is_said_to_be(run, folder):
    classifier = TextClassifier.from_pretrained(folder / "outside", device="cpu")
    outside = [prediction for prediction in classifier.classify(TEXTS) if prediction.is_outside]
    assert 0 < len(outside) < len(TEXTS)
    status, printed, complained = run("outside", *TEXTS)
    assert [line.split("\t")[0] == "outside" for line in printed.splitlines()].count(True) == len(outside)
    assert complained.count("note: outside: the most probable label, ") == len(outside)
    Path("texts.txt").write_text("\n".join(TEXTS))
    texts = "1 text is" if len(outside) == 1 else f"{len(outside)} texts are"
    why = "no label is probable enough by the thresholds of `calibrate`"
    expected = f"{USING}note: {texts} answered with 'outside': {why}.\n"
    assert run("outside", "--file", "texts.txt")[2] == expected


def test_what_was_read_of_a_long_text_is_said(run):
    text = "win a free prize now " * 5
    assert "message 1 is longer than 8 tokens; only the last 8 tokens were read." in run("last", text)[2]
    assert run("windows", text)[2] == USING
    write("long.csv", [{"text": text}, {"text": "win"}])
    complained = run("last", "--file", "long.csv", "--output", "out.csv")[2]
    assert "note: 1 text is longer than the model reads; only its last 8 tokens were read." in complained
