"""The demo: its questions, what it prints, and with -m slow how well its follower answers."""

import io
import json
import shlex
import sys
from importlib import util
from pathlib import Path

import pytest

from hf_gpt_scratch import cli
from hf_gpt_scratch.data import turns
from hf_gpt_scratch.prompts import user_message

ROOT = Path(__file__).parents[2]
DATA = ROOT / "training" / "demo_data"


@pytest.fixture(scope="module")
def demo():
    spec = util.spec_from_file_location("demo", ROOT / "training" / "demo.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return json.loads((DATA / "instructions.json").read_text(encoding="utf-8"))


def normalize(row: dict) -> tuple[str, str]:
    return turns.normalize(user_message(row["instruction"], row["input"]))


@pytest.fixture(scope="module")
def questions() -> list[dict]:
    return json.loads((DATA / "questions.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small_run(demo, tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of a demo of a few steps, and the lines that it printed."""
    folder, out = tmp_path_factory.mktemp("demo"), io.StringIO()
    words = ["--pretrain_steps", "6", "--instruct_epochs", "0.05", "--spam_epochs", "0.1", "--output_dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        demo.main(words)
    return folder, out.getvalue().splitlines()


def test_the_instructions_are_many_different_and_mostly_without_an_input(rows):
    assert 1000 <= len(rows) <= 3000 and (DATA / "instructions.json").stat().st_size < 400_000
    assert len({(row["instruction"], row["input"]) for row in rows}) == len(rows)
    assert 0.8 < sum(not row["input"] for row in rows) / len(rows) < 1
    assert all(text == text.strip() for row in rows for text in row.values())


def test_an_instruction_has_one_answer(rows):
    answers = {}
    for row in rows:
        assert answers.setdefault(normalize(row), row["output"]) == row["output"], row


def test_the_questions_are_kept_out_of_the_data_but_for_the_greetings(rows, questions):
    known = {normalize(row) for row in rows}
    asked = [normalize({"instruction": row["question"], "input": ""}) for row in questions]
    assert len(set(asked)) == 20
    in_data = {question for question, _ in known.intersection(asked)}
    assert in_data <= {"hello", "what can you do", "who are you", "tell me a joke"}


def test_what_the_follower_says_that_it_knows_is_in_the_data(rows, questions):
    said = next(row["answer"] for row in questions if row["question"] == "What can you do?")
    subjects = " ".join(row["instruction"].lower() for row in rows if not row["input"])
    for word in ("capital", "opposite", "plural", "past tense", "colour", "rhyme", "day", "month"):
        assert word in said and word in subjects


def test_only_the_table_of_losses_is_passed_on(demo):
    out = io.StringIO()
    table = demo.TableFilter(out, columns=43)
    header = "   step   epoch      loss   validation loss  perplexity\n"
    table.write("      0  sample: Tilly 12 3.4\n" + header + "    100    7.14    4.65")
    table.write("56            4.8178      1.8358\n\n   train_loss\n        1.54\nThe model is in runs.\n")
    shown = ["   step   epoch      loss   validation loss", "    100    7.14    4.6556            4.8178"]
    assert out.getvalue().splitlines() == shown


def test_the_demo_leaves_three_models_and_its_facts(small_run):
    folder, _ = small_run
    facts = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert len(facts["follower"]["questions"]) == len(facts["spam"]["obvious_messages"]) == 20
    assert facts["difference"] <= 1e-5 and facts["results"]["follower"].startswith("0 of 20")
    held_out = facts["follower"]["held_out"]
    answered = json.loads((folder / "follower" / "metrics.json").read_text(encoding="utf-8"))["answered_rows"]
    assert held_out["new_words"]["of"] + held_out["new_answer"]["of"] == answered
    assert all((folder / name / "config.json").is_file() for name in ("writer", "follower", "spam"))


def test_the_follower_is_saved_with_greedy_settings_that_fit_its_answers(small_run, rows):
    from hf_gpt_scratch.tokenizer import load_tokenizer

    folder, _ = small_run
    saved = json.loads((folder / "follower" / "generation_config.json").read_text(encoding="utf-8"))
    assert not saved.get("do_sample")
    tokenizer = load_tokenizer(folder / "follower")
    longest = max(len(tokenizer(row["output"])["input_ids"]) for row in rows)
    assert longest < saved["max_new_tokens"] <= 64


def test_the_summary_is_narrow_and_its_commands_are_understood(small_run, demo):
    folder, lines = small_run
    summary = lines[next(i for i, line in enumerate(lines) if line.startswith("=== Done")) :]
    assert [line for line in summary if len(line) > 100 and str(folder) not in line] == []
    parser = cli.make_parser()
    for name, command in demo.next_commands(folder):
        assert f"{name:16} {command}" in summary
        words = shlex.split(command)[len(shlex.split(demo.program())) :]
        parser.parse_args(words)


def test_no_line_of_a_job_but_its_losses_is_shown(small_run):
    _, lines = small_run
    assert not any("sample:" in line or "perplexity" in line or "metrics.json" in line for line in lines)
    assert sum(line.startswith("   step   epoch") for line in lines) == 3


@pytest.mark.parametrize("activated", [True, False])
def test_commands_are_short_only_in_an_activated_environment(demo, activated, tmp_path, monkeypatch):
    scripts = tmp_path / "a venv" / "bin"
    scripts.mkdir(parents=True)
    for name in ("python", "hf-gpt-scratch"):
        (scripts / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", str(scripts) if activated else str(tmp_path))
    expected = "hf-gpt-scratch" if activated else shlex.quote(str(scripts / "hf-gpt-scratch"))
    assert demo.program() == expected
    monkeypatch.chdir(tmp_path)
    assert demo.program() == ("hf-gpt-scratch" if activated else "'a venv/bin/hf-gpt-scratch'")


def test_where_the_package_is_not_installed_python_runs_the_command(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert demo.program() == f"{tmp_path / 'python'} -m hf_gpt_scratch_cli"


@pytest.mark.slow
def test_the_follower_answers_what_anyone_would_type(demo, tmp_path):
    default = demo.make_parser().get_default
    demo.train_writer(tmp_path / "writer", default("pretrain_steps"), 123)
    follower = demo.train_follower(tmp_path / "follower", tmp_path / "writer", default("instruct_epochs"), 123)
    wrong = [row for row in follower["questions"] if not row["is_right"]]
    assert len(wrong) <= 2, wrong
