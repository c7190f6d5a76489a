"""Every command, given a model and files that want to command the terminal: nothing of that is printed."""

import io
import json
import re
from pathlib import Path

import pytest

from hf_gpt_scratch.cli import main
from hf_gpt_scratch.commands import COMMANDS
from hf_gpt_scratch.hub.model_card import make_card
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils.result_card import Metric, ResultCard
from support.classifiers import save_classifier
from support.models import save_model

EVIL = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\x1b[8m\x07\x08\u202e\x00\x1bc"
NAME = EVIL.replace("\0", "")  # which no name of a file and no word of a command can have
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
TEXT = f"win{EVIL} a prize"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A classifier, a language model, and files, all with `EVIL` wherever it may stand."""
    folder = tmp_path_factory.mktemp("hostile")
    save_classifier(folder / "labels", (f"spam{EVIL}", f"ham{EVIL}", f"other{EVIL}"))
    texts = [f"the lamp {EVIL} on the hill {EVIL}"] * 5
    save_model(folder / "writer", texts=texts, tokens=320, chat=CHAT_TEMPLATE, n_positions=256)
    settings = json.loads((folder / "writer/config.json").read_text())
    (folder / "broken").mkdir()
    (folder / "broken/config.json").write_text(json.dumps(settings | {"architectures": [f"GPT{EVIL}"]}))
    metrics = {f"f1{EVIL}": Metric(0.5)}
    data = [{"source": f"x{EVIL}", "sha256": "0" * 64}]
    card = ResultCard(f"SMS{EVIL}", f"x{EVIL}", data, metrics, f"run{EVIL}", {}, [1], {f"base{EVIL}": metrics})
    card.write(folder / "run", "spam")
    (folder / f"a{NAME}.txt").write_text(f"{TEXT}\nsee{EVIL} you\n")
    (folder / "a.csv").write_text("".join(f'{n},"text{EVIL} {n}"\n' for n in ("id", 1, 2)))
    (folder / "labels.csv").write_text(f"text,label\na,x{EVIL}\nb,y{EVIL}\nc,x{EVIL}\n")
    (folder / f"a{NAME}.json").write_text("{")
    (folder / "a.yaml").write_text(f'"data{EVIL.encode("unicode_escape").decode()}": 1\n')
    rows = [{"instruction": TEXT, "input": EVIL, "output": EVIL, "model_response": f"it is{EVIL}"}]
    (folder / "responses.json").write_text(json.dumps(rows))
    (folder / "model.pth").write_bytes(b"PK" + EVIL.encode())
    return folder


COMMAND_LINES = {
    "classify": ("classify labels TEXT", "classify labels --file a*.txt", "classify labels TEXT --stream"),
    "classify, tables": ("classify labels --file a.csv", "classify labels --file a.csv --output out.csv"),
    "classify, JSON": ("classify labels TEXT --json", "classify labels TEXT --json --stream", "classify labels -EVIL"),
    "classify, wrong": ("classify labels --file EVIL", "classify broken TEXT", "classify writer TEXT"),
    "generate": (
        "generate writer --prompt TEXT --max-new-tokens 40 --temperature 2",
        "generate broken",
        "generate EVIL",
    ),
    "chat": ("chat writer --max-new-tokens 20", "chat labels", "chat EVIL"),
    "check": ("check labels", "check broken", "check EVIL", "check writer"),
    "report": ("report run --output_dir out", "report labels --output_dir out"),
    "judge": ("judge a*.json --judge writer", "judge responses.json --judge writer --output judged"),
    "convert": ("convert model.pth made", "convert broken made", "convert EVIL made"),
    "export": ("export labels made --to gguf", "export broken made", "export EVIL made"),
    "evaluate": ("evaluate broken --tasks EVIL", "evaluate writer --tasks EVIL"),
    "calibrate": ("calibrate labels", "calibrate EVIL", "calibrate labels --data_file labels.csv"),
    "benchmark": ("benchmark EVIL", "benchmark labels run"),
    "push": ("push broken EVIL", "push labels you/EVIL"),
    "train": (
        "train classify --data_file labels.csv --train_tokenizer 300 --output_dir run2",
        "train classify a.yaml --output_dir run2",
        "train spam --data_file a.csv --output_dir run2",
        "train instruct --data_file a*.json --output_dir run2",
        "train chat --data_file a.csv --output_dir run2 --EVIL 1",
    ),
    "app": ("app chat EVIL", "app classify broken", "app compare responses.json EVIL"),
    "examples": ("examples EVIL", "EVIL"),
}


def test_every_command_is_tried():
    assert {name.partition(",")[0] for name in COMMAND_LINES} == set(COMMANDS)


@pytest.mark.parametrize("lines", COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_nothing_commands_the_terminal(place, monkeypatch, capsys, lines):
    monkeypatch.chdir(place)
    said = ""
    for number, line in enumerate(lines):
        words = [word.replace("TEXT", TEXT.replace("\0", "")).replace("EVIL", NAME) for word in line.split()]
        words = [str(next(place.glob(word)).name) if "*" in word else word for word in words]
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{TEXT}\n"))
        try:
            main(words)
        except SystemExit as ended:
            assert ended.code in (0, 1, 2)
        out, err = capsys.readouterr()
        assert not CONTROL.search(out), (line, out)
        assert not CONTROL.search(err.replace("\r", "")), (line, err)  # of progress bars
        said += out + err
        if "--json" in line and number < 2:
            assert json.loads(out)["text"] == TEXT.replace("\0", "")  # nothing is lost
    assert said
    for path in place.glob("out/*.md"):
        assert not CONTROL.search(path.read_text())
    assert "Traceback" not in said


def test_nor_does_a_card(place):
    card = str(make_card(place / "labels", "you/x"))
    assert "spam" in card and not CONTROL.search(card)
