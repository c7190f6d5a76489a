"""`classify` on messages from arguments, a file, stdin or a terminal: labels, probabilities, notes."""

import io
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_gpt_scratch.utils.terminal import lines_that_came
from support.commands import USING

SCRIPT = Path(sys.executable).with_name("hf-gpt-scratch")
MESSAGES = ["Win a prize now! ☃", "see you at home", "ok 😀"]


def predict(text: str) -> float:
    """The probability of spam, the long way."""
    ids = AutoTokenizer.from_pretrained("classifier")(text)["input_ids"][:64]
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained("classifier")(torch.tensor([ids])).logits
    return logits.softmax(-1)[0, 1].item()


@pytest.mark.parametrize("where", ["arguments", "file", "stdin"])
@pytest.mark.parametrize("batch_size", ["2", "32"])
def test_classify_prints_label_and_probability_of_each_message(run, monkeypatch, where, batch_size):
    # The file has the byte-order mark and the line ends of Windows.
    Path("messages.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(MESSAGES).encode())
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(MESSAGES)))
    options = {"arguments": MESSAGES, "file": ["--file", "messages.txt"], "stdin": []}[where]
    status, printed, _ = run("classify", "classifier", *options, "--batch-size", batch_size)
    assert status == 0
    expected = [(message, predict(message)) for message in MESSAGES]
    assert len({probability > 0.5 for _, probability in expected}) == 2  # both labels occur
    assert printed.splitlines() == [f"{'spam' if p > 0.5 else 'ham'}\t{p:.4f}\t{text}" for text, p in expected]


def test_classify_complains_of_nothing_when_all_is_well(run):
    assert run("classify", "classifier", *MESSAGES)[2] == USING


def test_classify_prints_json_lines(run):
    status, printed, _ = run("classify", "classifier", *MESSAGES, "--json")
    assert status == 0
    for message, line in zip(MESSAGES, printed.splitlines(), strict=True):
        record, probability = json.loads(line), predict(message)
        assert record.pop("probability") == pytest.approx(probability, abs=1e-5)
        label = "spam" if probability > 0.5 else "ham"
        assert record == {"text": message, "label": label, "threshold": 0.5, "truncated": False}


def test_stream_prints_a_line_for_each_word(run):
    status, printed, _ = run("classify", "classifier", MESSAGES[0], "--stream")
    *words, verdict = printed.splitlines()
    assert status == 0
    assert [line.split()[-1] for line in words] == MESSAGES[0].split()
    assert words[-1].split()[0] == f"{predict(MESSAGES[0]):.1%}"
    assert verdict.endswith(MESSAGES[0])


@pytest.mark.parametrize(
    "message", [*MESSAGES, "  see   you\tat home ", "z q " * 50], ids=lambda text: repr(text[:20])
)
def test_probability_after_a_word_is_that_of_the_message_up_to_there(run, message):
    status, printed, _ = run("classify", "classifier", message, "--stream", "--json")
    assert status == 0
    record = json.loads(printed)
    words = list(re.finditer(r"\S+", message))[: len(record["words"])]
    assert [word["word"] for word in record["words"]] == [word.group() for word in words]
    expected = [predict(message[: word.end()].strip()) for word in words]
    assert [word["probability"] for word in record["words"]] == pytest.approx(expected, abs=1e-5)
    assert record["words"][-1]["probability"] == pytest.approx(record["probability"], abs=1e-5)
    assert record["truncated"] or len(words) == len(message.split())


def test_message_longer_than_the_model_reads_is_noted(run):
    status, printed, said = run("classify", "classifier", "see you", "z " * 80, "--json")
    assert status == 0
    assert said.splitlines()[-1] == "note: message 2 is longer than 64 tokens; only those were read."
    short, long = map(json.loads, printed.splitlines())
    assert (short["truncated"], long["truncated"]) == (False, True)
    assert long["probability"] == pytest.approx(predict(("z " * 80).strip()), abs=1e-5)


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "cp1252"), ("utf-16", "utf-16")])
def test_lines_of_another_encoding_are_read_as_those_of_a_table_and_it_is_said(run, encoding, name):
    Path("lines.txt").write_bytes("Größe und Menge für später\r\nschöne Grüße aus Köln\r\n".encode(encoding))
    status, printed, said = run("classify", "classifier", "--file", "lines.txt")
    assert status == 0 and f"note: lines.txt was read as {name}.\n" in said
    assert [line.split("\t")[2] for line in printed.splitlines()] == [
        "Größe und Menge für später",
        "schöne Grüße aus Köln",
    ]


def test_a_fault_in_a_file_is_told_before_any_result(run):
    Path("none.txt").touch()
    for file, complaint in {"cut.txt": "cut.txt is not UTF-16 text", "none.txt": "none.txt is empty"}.items():
        status, printed, said = run("classify", "classifier", "--file", file)
        assert (status, printed) == (1, "") and complaint in said


@pytest.mark.parametrize("batch_size", ["1", "32"])
@pytest.mark.parametrize("where", ["file", "stdin"])
def test_an_empty_line_keeps_its_place(run, monkeypatch, where, batch_size):
    lines = ["", *MESSAGES[:2], " \t", "", MESSAGES[2], ""]
    Path("gaps.txt").write_text("\n".join([*lines, ""]))
    options = [*(["--file", "gaps.txt"] if where == "file" else []), "--batch-size", batch_size]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*lines, ""])))
    status, printed, said = run("classify", "classifier", *options)
    texts = [line.split("\t", 2)[2] for line in printed.splitlines()]
    assert (status, texts) == (0, ["", *MESSAGES[:2], "", "", MESSAGES[2], ""])
    assert [line for line in printed.splitlines() if line.startswith("-")] == ["-\t-\t"] * 4
    assert said == USING + "note: 4 empty lines were not classified.\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nhello\n"))
    empty, full = map(json.loads, run("classify", "classifier", "--json", "--stream")[1].splitlines())
    assert empty == {**full, "text": "", "label": None, "probability": None, "words": []}


def test_a_message_without_quotes_is_one(run):
    status, printed, said = run("classify", "classifier", "win", "a", "prize")
    assert (status, printed) == (0, run("classify", "classifier", "win a prize")[1])
    assert said.splitlines()[1].startswith("note: read as one message: 'win a prize'.")
    assert len(run("classify", "classifier", "win a prize", "hello")[1].splitlines()) == 2


def test_a_label_that_the_calibrated_threshold_decides_is_explained(run):
    probabilities = {text: predict(text) for text in MESSAGES}
    spam = [text for text, probability in probabilities.items() if probability > 0.5]
    threshold = max(probabilities.values()) + 0.001
    config = json.loads(Path("classifier/config.json").read_text())
    Path("classifier/config.json").write_text(json.dumps(config | {"calibration": {"threshold": threshold}}))
    status, printed, said = run("classify", "classifier", *MESSAGES)
    assert status == 0 and {line.split("\t")[0] for line in printed.splitlines()} == {"ham"}
    assert said.splitlines()[1:] == [
        f"note: ham: {probabilities[text]:.4g} is below the threshold {threshold:.4g} of the calibration."
        for text in spam
    ]
    Path("messages.txt").write_text("\n".join([spam[0]] * 3))
    said = run("classify", "classifier", "--file", "messages.txt")[2]
    assert said.splitlines()[1:] == [
        f"note: 3 messages have probabilities between 0.5 and the threshold {threshold:.4g} of the calibration."
    ]


@pytest.mark.parametrize("order", [["classifier", "--json", "hello"], ["--json", "classifier", "hello"]])
def test_options_may_stand_anywhere(run, order):
    status, printed, _ = run("classify", *order)
    assert (status, json.loads(printed)["text"]) == (0, "hello")


def test_messages_twice_over_are_bad_usage(run):
    status, printed, said = run("classify", "classifier", "hello", "--file", "messages.txt")
    assert (status, printed) == (2, "")
    assert "not both" in said


def installed_command(*args: str, stdin: str = "") -> subprocess.CompletedProcess:
    return subprocess.run([SCRIPT, *args], input=stdin, capture_output=True, text=True)


def test_a_message_typed_in_is_answered_at_once(models):
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    keyboard, terminal = pty.openpty()
    command = [SCRIPT, "classify", "classifier"]
    with subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for text in ("hello", "win a prize"):
            os.write(keyboard, f"{text}\n".encode())
            assert process.stdout.readline().endswith(f"\t{text}\n")
        os.write(keyboard, b"\x04")  # Ctrl-D
        assert process.stderr.read() == USING + "Type a message a line; Ctrl-D ends.\n"
    assert process.returncode == 0


class Arriving(io.BytesIO):
    """Bytes of standard input that come one piece after the other; `before` is called when the next is waited for."""

    def __init__(self, pieces: list[bytes], before: Callable[[], None] = lambda: None):
        super().__init__()
        self.pieces, self.before = pieces, before

    def read1(self, size: int = -1) -> bytes:
        self.before()
        return self.pieces.pop(0) if self.pieces else b""


def test_a_line_from_a_pipe_is_answered_before_the_next_one_is_waited_for(run, monkeypatch, capsys):
    printed, waited = "", []

    def before() -> None:
        nonlocal printed
        printed += capsys.readouterr().out
        waited.append(printed.count("\n"))

    pieces = [*(f"{message}\r\n".encode() for message in MESSAGES), b"one\ntwo\nthr", b"ee"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Arriving(pieces, before), "utf-8"))
    status, rest, _ = run("classify", "classifier")
    assert status == 0 and waited == [0, 1, 2, 3, 5, 5]
    assert [line.split("\t")[2] for line in (printed + rest).splitlines()] == [*MESSAGES, "one", "two", "three"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_lines_come_whole_however_they_arrive(size):
    content = "Win ☃\r\nsee\r\n\nyou\rat 😀 home".encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    found = list(lines_that_came(io.TextIOWrapper(Arriving(pieces), "utf-8")))
    assert [line for lines in found for line in lines] == ["Win ☃", "see", "", "you", "at 😀 home"]


def test_lines_before_one_that_is_no_text_come_first():
    for pieces in ([b"see\r\nyou\nat hall\xf6\nhome\n"], [b"see\ny", b"ou\nhall\xf6\n"]):
        lines = itertools.chain.from_iterable(lines_that_came(io.TextIOWrapper(Arriving(pieces), "utf-8")))
        assert [next(lines), next(lines)] == ["see", "you"]
        with pytest.raises(UnicodeDecodeError):
            next(lines)


def test_installed_command_classifies_its_input(models):
    done = installed_command("classify", "classifier", "--json", stdin="\n".join(MESSAGES))
    assert done.returncode == 0
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == MESSAGES


def test_installed_command_fails_with_one_sentence(models):
    done = installed_command("classify", "empty folder", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: empty folder is not a model folder: it has no config.json.\n"
