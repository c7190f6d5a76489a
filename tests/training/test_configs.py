"""Configs by name or path, and what is wrong with a command told before torch is imported."""

import importlib
import re
import subprocess
import sys
import time
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_gpt_scratch.training import configs, job_help, spam
from hf_gpt_scratch.training.arguments import ScratchTrainingArguments, parse_yaml_and_args
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import Metric, ResultCard
from support.commands import run_command

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "training" / "configs"
JOBS = ["pretrain", "classify", "spam", "instruct"]
JOBS.append(pytest.param("prefer", marks=pytest.mark.skipif(find_spec("trl") is None, reason="no trl")))
MESSAGES = ROOT / "tests" / "support" / "messages.tsv"


def parse(job: str, *words: str):
    parser = importlib.import_module(f"hf_gpt_scratch.training.{job}").make_parser()
    return parse_yaml_and_args(parser, [*words, "--output_dir", "out", "--use_cpu", "true"], job)


@pytest.mark.parametrize("words", [["cpu_small"], ["--config", "cpu_small"], ["--seed", "1", "--config=cpu_small"]])
def test_a_config_is_found_by_its_name_among_those_of_the_job(words):
    assert parse("spam", *words)[0].train_tokenizer == 4000
    assert parse("pretrain", *words)[0].train_tokenizer == 1000


@pytest.mark.parametrize("words", [[], ["--config"]])
def test_a_config_is_found_by_its_path(words, tmp_path):
    (tmp_path / "cpu_small.yaml").write_text("word_dropout: 0.5\n")
    path = str(tmp_path / "cpu_small.yaml")
    args, training_args = parse("spam", *words, path, "--word_dropout", "0.25", "--learning_rate", "1")
    assert args.word_dropout == 0.25 and args.train_tokenizer is None and training_args.learning_rate == 1
    assert parse("spam", str(SHIPPED / "spam" / "cpu_small.yaml"))[0].train_tokenizer == 4000


def test_the_name_of_a_shipped_config_may_have_its_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configs.find("gpt2_small.yaml", "spam") == configs.find("gpt2_small", "spam")
    (tmp_path / "gpt2_small.yaml").touch()
    assert configs.find("gpt2_small.yaml", "spam") == Path("gpt2_small.yaml")
    assert configs.find("elsewhere/gpt2_small.yaml", "spam") == Path("elsewhere/gpt2_small.yaml")


def test_every_shipped_config_has_a_name_and_is_in_the_wheel():
    for job in ("pretrain", "classify", "spam", "instruct"):
        assert configs.names(job) == sorted(path.stem for path in (SHIPPED / job).glob("*.yaml"))
    assert '"hf_gpt_scratch.configs" = ["*.yaml", "*/*.yaml"]' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        (["cpu_tiny"], InputError, "no config cpu_tiny; .* colab_t4, cpu_small, gpt2_small, transfer"),
        (["nowhere.yaml"], InputError, "nowhere.yaml cannot be read"),
        (["cpu_small", "--config", "transfer"], UsageError, "two configs"),
        (["--config"], UsageError, "needs the name"),
        (["cpu_small", "--data_file", "nosuch.tsv"], InputError, "The data file nosuch.tsv does not exist"),
        (["cpu_small", "--data_file=nosuch.tsv"], InputError, "The data file nosuch.tsv does not exist"),
        (["--data_file", "--protocol", "book"], UsageError, "--data_file needs a value"),
        (["cpu_small", "--data_file="], UsageError, "--data_file needs a value"),
        (["--model_name_or_path"], UsageError, "--model_name_or_path needs a value"),
        (["cpu_small", "--model_name_or_path", "./nosuch"], InputError, "no folder ./nosuch; .*--model_name_or_path"),
        (["cpu_small", "--data_file", str(MESSAGES), "--dataset_name", "x"], UsageError, "not both"),
        (["cpu_small", "--learnin_rate", "1"], UsageError, "no option --learnin_rate .did you mean --learning_rate"),
        (["cpu_small", "--max-step", "3"], UsageError, "no option --max_step .did you mean --max_steps"),
        (["cpu_small"], UsageError, "--output_dir"),
        (["cpu_small", "--seed", "-1"], UsageError, "--seed must be from 0 to 4294967295, not -1"),
        (["cpu_small", "--data_seed=-1"], UsageError, "--data_seed must be from 0"),
        (["cpu_small", "--split_seed", "4294967296"], UsageError, "--split_seed must be from 0"),
        (["cpu_small", "--data_file", "caf\udce9.tsv"], UsageError, r"caf\\udce9.tsv is not UTF-8; give another name"),
    ],
)
def test_what_is_wrong_with_the_words(words, error, reason):
    added = ["--output_dir", "out"] if "--output_dir" not in reason else []
    with pytest.raises(error, match=reason):
        configs.check_words([*words, *added], "spam")


@pytest.mark.parametrize("value", ["5", "true", "2026-01-01", "[a, b]", "{a: b}"])
@pytest.mark.parametrize("option", ["output_dir", "model_name_or_path", "data_file", "resume_from_checkpoint"])
def test_a_value_of_another_type_is_a_text_or_refused(option, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"{option}: {value}\n")
    words = ["mine.yaml", *([] if option == "output_dir" else ["--output_dir", "out"])]
    if value[0] in "[{":
        with pytest.raises(UsageError, match=f"mine.yaml: {option} takes one value"):
            configs.check_words(words, "spam")
        return
    try:
        configs.check_words(words, "spam")
    except InputError as error:
        assert option == "data_file" and value in str(error).lower() and not isinstance(error, UsageError)
    else:
        assert option != "data_file"


@pytest.mark.parametrize("kind", ["merged", "repeated", "its own part"])
def test_a_few_lines_that_stand_for_many_are_refused_at_once(kind, tmp_path):
    if kind == "its own part":
        text = "a: &a [*a]"
    else:
        before, after = ("{<<: [", "]}") if kind == "merged" else ("[", "]")
        levels = ["a0: &a0 {x: 1}"]
        levels += [f"a{n}: &a{n} {before}{', '.join([f'*a{n - 1}'] * 10)}{after}" for n in range(1, 8)]
        text = "\n".join(levels)
    (tmp_path / "mine.yaml").write_text(text)
    began = time.perf_counter()
    with pytest.raises(InputError, match="more than 10,000 values, or aliases"):
        configs.read(tmp_path / "mine.yaml")
    assert time.perf_counter() - began < 5


def test_a_file_cannot_say_that_code_is_trusted(tmp_path):
    (tmp_path / "mine.yaml").write_text("trust_remote_code: true\n")
    with pytest.raises(InputError, match="trust_remote_code"):
        parse("spam", str(tmp_path / "mine.yaml"))


def test_a_classifier_needs_labelled_texts():
    with pytest.raises(UsageError, match="labelled texts with --data_file, such as --data_file tickets.csv, or --d"):
        configs.check_words(["cpu_small", "--output_dir", "out"], "classify")
    configs.check_words(["cpu_small", "--output_dir", "out", "--dataset_name", "user/set"], "classify")


def test_right_words_pass():
    configs.check_words(["cpu_small", "--data-file", str(MESSAGES), "--output_dir=out", "--bf16"], "spam")
    configs.check_words(["--no_restore_callback_states_from_checkpoint", "--output_dir", "out"], "spam")


@pytest.mark.parametrize("job", JOBS)
def test_the_options_are_those_of_the_dataclasses(job):
    parser = importlib.import_module(f"hf_gpt_scratch.training.{job}").make_parser()
    assert configs.option_names(job) == {field.name for kind in parser.dataclass_types for field in fields(kind)}
    assert {field.name for field in fields(ScratchTrainingArguments)} < configs.option_names(job)


@pytest.mark.parametrize("job", JOBS)
def test_the_help_ends_with_an_example_whose_words_are_right(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets.csv").write_text("text,label\nhi,ham\n")  # which the example of a file of one's own calls so
    *_, example = importlib.import_module(f"hf_gpt_scratch.training.{job}").make_parser().format_help().splitlines()
    start = f"Example: hf-gpt-scratch train {job} "
    assert example.startswith(start)
    configs.check_words(example.removeprefix(start).split(), job)


@pytest.mark.parametrize("job", JOBS)
def test_the_short_help_says_what_the_parser_says(job, capsys):
    """It is read from the source of the dataclasses, and lists the job's own options first."""
    module = importlib.import_module(f"hf_gpt_scratch.training.{job}")
    parser, others = module.make_parser(), getattr(module, "OF_TRL", {})
    with pytest.raises(SystemExit, match="0"):
        run_command("train", job, "--help")
    text = capsys.readouterr().out
    words = " ".join(text.split())
    shown = re.findall(r"^  --(\w+) X", text, re.MULTILINE)
    own, theirs = ([field.name for field in fields(kind)] for kind in parser.dataclass_types)
    assert sorted(shown[: len(own)]) == sorted(own) and set(shown[len(own) :]) < set(theirs)
    assert len(text.splitlines()) < 150 and f"other {len(set(theirs) - set(shown))} TrainingArguments" in words
    for action in parser._actions:
        if action.dest in others:
            assert f"--{action.dest} X {others[action.dest]}" in words
        elif action.dest in shown and action.dest not in job_help.COMMON and action.option_strings[0][:5] != "--no_":
            default = str(action.default).lower() if isinstance(action.default, bool) else str(action.default)
            tail = "" if action.default is None or "default" in action.help else f" (default: {default})"
            assert f"--{action.dest} X {action.help.rstrip('.')}{tail}." in words, action.dest
        elif action.dest in job_help.COMMON and action.default not in (None, -1):
            default = getattr(action.default, "value", action.default)
            default = str(default).lower() if isinstance(default, bool) else default
            assert f"{job_help.COMMON[action.dest].rstrip('.')} (default: {default})." in words, action.dest
    start = f"Example: hf-gpt-scratch train {job} "
    assert text.splitlines()[-1].startswith(start)


def test_all_options_are_listed_on_demand(capsys):
    with pytest.raises(SystemExit, match="0"):
        run_command("train", "spam", "--help-all")
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in configs.option_names("spam"))


def make_run(folder: Path, name: str) -> Path:
    """A folder that holds what the name says."""
    folder.mkdir()
    if name == "a result card":
        card = ResultCard(
            "a task", "a protocol", [{"source": "x", "sha256": "ab"}], {"x": Metric(1.0)}, "a command", {}
        )
        card.write(folder, "spam")
    elif name.startswith("checkpoint"):
        (folder / name).mkdir()
    else:
        (folder / name).write_text("{}")
    return folder


HELD = ["config.json", "adapter_config.json", "metrics.json", "a result card", "checkpoint-10"]


@pytest.mark.parametrize("held", HELD)
def test_a_run_is_not_replaced_unasked(held, tmp_path):
    """One that has no run.json may be of any command; checkpoints alone are compared with the command later."""
    folder = make_run(tmp_path / "out", held)
    words = ["cpu_small", "--data_file", str(MESSAGES), "--output_dir", str(folder)]
    refused = [*words, "--resume_from_checkpoint", "false"] if held.startswith("checkpoint") else words
    with pytest.raises(InputError, match=r"out (already )?holds .*--overwrite_output_dir true.*\.$"):
        configs.check_words(refused, "spam")
    with pytest.raises(InputError, match="--overwrite_output_dir"):
        spam.main([*refused, "--use_cpu", "true"])
    for option in ("--overwrite_output_dir", "--overwrite_output_dir=true", "--resume_from_checkpoint=true"):
        configs.check_words([*words, option], "spam")
    with pytest.raises(UsageError, match="not both"):
        configs.check_words([*words, "--overwrite_output_dir", "true", "--resume_from_checkpoint", "true"], "spam")
    with pytest.raises(
        InputError, match="--overwrite_output_dir"
    ):  # another run's checkpoint does not make it this one
        configs.check_words([*words, "--resume_from_checkpoint", str(tmp_path / "other" / "checkpoint-5")], "spam")


@pytest.mark.parametrize("held", HELD)
def test_what_the_same_command_may_have_left_is_looked_at_later(held, tmp_path):
    folder = make_run(tmp_path / "out", held)
    (folder / configs.RUN_FILE).write_text("{}")
    configs.check_words(["cpu_small", "--data_file", str(MESSAGES), "--output_dir", str(folder)], "spam")


def test_what_is_no_run_may_lie_in_the_folder(tmp_path):
    for name in ("notes.txt", "results.json", "checkpoint-best"):
        make_run(tmp_path / name, name)
        configs.require_free(tmp_path / name, overwrite=False, resume=None)
    configs.require_free(tmp_path / "absent", overwrite=False, resume="false")


def test_a_model_is_not_trained_into_its_own_folder(tmp_path):
    with pytest.raises(UsageError, match="is the model to start from; choose another --output_dir"):
        configs.require_free(tmp_path, overwrite=True, resume=None, base=f"{tmp_path}/../{tmp_path.name}")


WRONG = [["--data_file", "nosuch"], ["--nosuch", "1"], ["nosuch"]]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_the_command_tells_it_before_torch_is_imported(words):
    code = (
        "import sys, hf_gpt_scratch_cli\n"
        "try:\n"
        f"    hf_gpt_scratch_cli.run(['train', 'spam', *{words!r}, '--output_dir', 'out'])\n"
        "except SystemExit as ended:\n"
        "    status = ended.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy or not status else None)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0 and re.fullmatch("error: .*nosuch.*\n", run.stderr), run.stderr
