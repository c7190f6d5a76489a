"""Output on a terminal or into a pipe that is not UTF-8: no command dies of a character."""

import io
import json
import os
import subprocess
import sys

import pytest

from hf_gpt_scratch import GPTScratchForSequenceClassification
from hf_gpt_scratch.utils import console
from support.models import save_model

TEXT = "naïve 5 € 😀 █"
SCRIPT = """
import io, sys, hf_gpt_scratch_cli
sys.stdin = io.StringIO("caf\\u00e9\\n")
for words in {commands!r}:
    try:
        hf_gpt_scratch_cli.run(words)
    except SystemExit as ended:
        print("exit", ended.code, file=sys.stderr)
    print("--")
"""
ENCODINGS = {
    "PYTHONIOENCODING=cp1252": {"PYTHONIOENCODING": "cp1252"},
    "LC_ALL=C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    template = "{{ messages[-1]['content'] }}"
    return (
        save_model(folder / "classifier", GPTScratchForSequenceClassification, id2label={0: "gut", 1: "schön"}),
        save_model(folder / "writer", chat=template),
    )


@pytest.mark.parametrize("name", ENCODINGS)
def test_commands_print_what_the_terminal_cannot_show(name, models):
    classifier, writer = map(str, models)
    commands = [
        ["classify", classifier, TEXT, "--stream"],
        ["classify", classifier, TEXT, "--json"],
        ["generate", writer, "--prompt", TEXT, "--max-new-tokens", "20"],
        ["chat", writer, "--max-new-tokens", "20"],
        ["classify", classifier, "--file", "nosuch-é"],
    ]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONUTF8", "LC_ALL", "LANG")}
    command = [sys.executable, "-c", SCRIPT.replace("{commands!r}", ascii(commands))]
    done = subprocess.run(command, capture_output=True, env={**environment, **ENCODINGS[name]})
    err = done.stderr.decode("ascii", "replace")
    assert "Traceback" not in err and "UnicodeEncodeError" not in err, err
    assert [line for line in err.splitlines() if line.startswith("exit")] == ["exit 0"] * 4 + ["exit 1"]
    streamed, as_json, generated, _, _ = done.stdout.decode("cp1252").split("--\n")[:5]
    assert "#" in streamed and "\\ud83d\\ude00" in streamed
    assert json.loads(as_json)["text"] == TEXT  # nothing is lost
    shown = TEXT.replace("😀", "\\ud83d\\ude00").replace("█", "\\u2588")
    if "1252" not in name:
        shown = shown.replace("ï", "\\u00ef").replace("€", "\\u20ac")
    assert generated.startswith(shown)


@pytest.mark.parametrize(
    ("encoding", "written"), [("cp1252", "é € \\u2603 \\ud800 \\u2588"), ("utf-8", "é € ☃ \\ud800 █")]
)
def test_what_is_outside_of_the_encoding_is_escaped(encoding, written, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    console.never_fail_to_print()
    print("é € ☃ \ud800 █", end="", flush=True)
    assert stream.buffer.getvalue().decode(encoding) == written
