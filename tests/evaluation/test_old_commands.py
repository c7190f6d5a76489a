"""The commands that result cards of this and earlier versions record."""

import json
import runpy
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

from hf_gpt_scratch.cli import make_parser
from hf_gpt_scratch.training import configs
from hf_gpt_scratch.training.arguments import parse_yaml_and_args

ROOT = Path(__file__).parents[2]
OLD = {"calibration": "calibrate", "spam_benchmark": "benchmark", "harness": "evaluate", "report": "report"}
CARDS = [json.loads(path.read_text()) for path in sorted((ROOT / "training" / "results").rglob("*.json"))]
OWN_WORDS = {  # scripts that are no commands
    "shorter_answers.py": ["measure", "runs/shorter"],
    "across.py": ["runs/spam-1", "runs/mails", "--output_dir", "runs/across"],
    "gpu.py": ["--folder", "runs/gpu"],
}
DATA = {  # a row of each file that the commands name
    "the-verdict.txt": "I had always thought",
    "instruction-data.json": '[{"instruction": "Count.", "input": "", "output": "One."}]',
    "runs/corpus/corpus.txt": "A text.",
    "runs/two_answers/preferences.jsonl": '{"prompt": "Count.", "chosen": "One.", "rejected": "One, two."}',
    "runs/mails.csv": "label,text,split\nham,See you.,train",
    "runs/mails-1.csv": "label,text,split\nham,See you.,train",
}
COMMANDS = sorted({card["command"] for card in CARDS if "command" in card})


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(("module", "command"), OLD.items(), ids=OLD)
def test_the_commands_of_older_cards_are_those_of_today(monkeypatch, capsys, module, command):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"hf_gpt_scratch.evaluation.{module}", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: hf-gpt-scratch {command} [-h]")


@pytest.fixture
def words_of(monkeypatch):
    """The words behind `hf-gpt-scratch` that a recorded command comes to."""
    started = []
    monkeypatch.setattr("hf_gpt_scratch_cli.run", lambda words=None, program=None: started.append(words))

    def words_of(command: str) -> list[str]:
        program, *words = [word for word in shlex.split(command) if not word.startswith("OMP_NUM_THREADS=")]
        if program == "hf-gpt-scratch":
            return words
        assert program == "python"
        is_module = words[0] == "-m"
        program = words.pop(1 if is_module else 0)
        monkeypatch.setattr(sys, "argv", [program, *words[is_module:]])
        if Path(program).name in OWN_WORDS:
            return words
        if is_module:
            runpy.run_module(program, run_name="__main__")
        else:
            runpy.run_path(str(ROOT / program), run_name="__main__")
        return started[-1] or sys.argv[1:]

    return words_of


def test_there_are_commands_of_every_kind():
    kinds = (
        "hf-gpt-scratch ",
        "python training/",
        "OMP_NUM_THREADS=1 python -m ",
        "OMP_NUM_THREADS=1 python training/",
    )
    assert {kind for kind in kinds for command in COMMANDS if command.startswith(kind)} == set(kinds)
    assert all(
        command.removeprefix("OMP_NUM_THREADS=1 ").startswith(("hf-gpt-scratch ", "python ")) for command in COMMANDS
    )


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_recorded_command_can_be_given_today(words_of, monkeypatch, tmp_path, command):
    words = words_of(command)
    monkeypatch.chdir(tmp_path)
    Path("training").symlink_to(ROOT / "training")  # the configs that it names
    Path("examples").symlink_to(ROOT / "hf_gpt_scratch" / "example_data")
    Path("runs/corpus").mkdir(parents=True)
    Path("runs/small").mkdir()
    for folder in ("runs/two_answers", "runs/either"):
        Path(folder).mkdir()
    for name, text in DATA.items():
        Path(name).write_text(text)
    if script := next((name for name in OWN_WORDS if name in command), None):
        assert words == OWN_WORDS[script]
        return
    parsed = make_parser().parse_args(words)
    if words[0] == "train":
        _, job, *options = words
        if job == "prefer":
            pytest.importorskip("trl")
        configs.check_words(options, job)
        parser = import_module(f"hf_gpt_scratch.training.{job}").make_parser()
        parse_yaml_and_args(parser, [*options, "--use_cpu", "true"], job)
    else:
        assert callable(parsed.run) and parsed.command == words[0]
