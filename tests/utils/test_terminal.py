"""What files and models say is printed without power over the terminal."""

import io
import json
import sys
import time

import pytest

from hf_gpt_scratch.utils.errors import InputError, run_reporting_errors
from hf_gpt_scratch.utils.terminal import PlainOutput, json_line, plain, plain_line, plain_output

HOSTILE = {
    "colour": ("a\x1b[31mb\x1b[0m", "ab"),
    "clear screen": ("a\x1b[2J\x1b[Hb", "ab"),
    "clipboard, BEL": ("a\x1b]52;c;cm0gLXJm\x07b", "ab"),
    "clipboard, ST": ("a\x1b]52;c;cm0gLXJm\x1b\\b", "ab"),
    "link": ("\x1b]8;;http://x\x1b\\ab\x1b]8;;\x1b\\", "ab"),
    "device control": ("a\x1bP1$r\x1b\\b", "ab"),
    "reset": ("a\x1bcb", "ab"),
    "character set": ("a\x1b(0b", "ab"),
    "C1 CSI": ("a\x9b31mb", "ab"),
    "C1 OSC": ("a\x9d52;c;cm0=\x9cb", "ab"),
    "begun": ("ab\x1b]52;c;cm0=", "ab52;c;cm0="),
    "nested": ("a\x1b\x1b[31m[31mb", "a[31mb"),
    "bell and backspace": ("a\x07\x08b\x7f", "ab"),
    "carriage return": ("real\rfake", "real fake"),
    "end of line": ("a\r\nb\tc\n", "a\nb\tc\n"),
    "NUL": ("a\0b", "ab"),
    "bidi override": ("a\u202egpj.exe\u202cb\u2066c\u2069", "agpj.exebc"),
}
KEPT = "naïve 5 € 😀 👩‍👩‍👧 שלום\u200f العربية\u061c 日本\n\tx"


@pytest.mark.parametrize(("text", "left"), HOSTILE.values(), ids=HOSTILE)
def test_control_sequences_go_whole(text, left):
    assert plain(text) == left


@pytest.mark.parametrize("begin", ["\x9d", "\x90", "\x1b]", "\x9b", "\x1b[", "\x1b"])
def test_a_text_of_beginnings_takes_no_time(begin):
    began = time.perf_counter()
    assert not set(plain(begin * 200_000)) & set("\x1b\x90\x9b\x9d")
    assert time.perf_counter() - began < 5  # 0.05 on an idle machine, where each is looked at once; else minutes


def test_every_other_text_stays():
    assert plain(KEPT) == KEPT


def test_a_name_stays_on_its_line():
    assert plain_line("spam\t0.99\nham\u2028x \x1b[31m") == "spam 0.99 ham x"


def test_json_is_escaped_and_says_the_same():
    value = {"text": "".join(text for text, _ in HOSTILE.values()) + KEPT}
    line = json_line(value)
    assert plain(line) == line and "\n" not in line and "😀" in line
    assert json.loads(line) == value


@pytest.mark.parametrize(("text", "left"), HOSTILE.values(), ids=HOSTILE)
def test_a_sequence_in_pieces_is_one(text, left):
    stream = io.StringIO()
    output = PlainOutput(stream)
    for character in text:
        print(character, end="", file=output, flush=True)
    output.end()
    assert stream.getvalue() == left


def test_what_is_begun_and_never_ends_hides_little():
    stream = io.StringIO()
    output = PlainOutput(stream)
    for word in ["\x1b]52;c;", *["word "] * 1000]:
        output.write(word)
    assert stream.getvalue().count("word ") > 900 and "\x1b" not in stream.getvalue()


def test_our_colours_stay_on_a_terminal_and_a_strangers_commands_do_not():
    stream = io.StringIO()
    stream.isatty = lambda: True
    PlainOutput(stream).write("\x1b[31mred\x1b[0m \x1b[8mhidden\x1b[2J\n")
    assert stream.getvalue() == "\x1b[31mred\x1b[0m hidden\n"


def test_progress_bars_stay_on_stderr():
    stream = io.StringIO()
    for piece in ("\r 50%|##  | \x1b]0;x\x07", "\n", "\x1b[A", "\r 100%", "x\ry"):
        PlainOutput(stream, with_bars=True).write(piece)
    assert stream.getvalue() == "\r 50%|##  | \n\x1b[A\r 100%x y"


def test_all_that_is_printed_in_a_command_is_plain(capsys):
    with plain_output():
        print("a\x1b[31mb")
        print("c\x1b]0;x\x07d", file=sys.stderr)
        sys.stdout.writelines(["\x1b[1m", "e\n"])
    assert capsys.readouterr() == ("ab\ne\n", "cd\n")
    print("\x1b[0m", end="")
    assert capsys.readouterr().out == "\x1b[0m"  # as before


def test_errors_are_plain(capsys):
    def fail() -> None:
        raise InputError("There is no \x1b]52;c;cm0=\x07\x9b31mfile.")

    assert run_reporting_errors(fail) == 1
    assert capsys.readouterr().err == "error: There is no file.\n"
