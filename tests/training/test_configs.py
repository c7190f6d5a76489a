"""Configs by name or path, and what is wrong with a command told before torch is imported."""

import importlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from hf_gpt_scratch.training import configs
from hf_gpt_scratch.training.arguments import ScratchTrainingArguments, parse_yaml_and_args
from hf_gpt_scratch.utils.errors import InputError, UsageError

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "training" / "configs"
MESSAGES = ROOT / "training" / "demo_data" / "messages.tsv"


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
    for job in ("pretrain", "spam", "instruct"):
        assert configs.names(job) == sorted(path.stem for path in (SHIPPED / job).glob("*.yaml"))
    assert '"hf_gpt_scratch.configs" = ["*.yaml", "*/*.yaml"]' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        (["cpu_tiny"], InputError, "no config cpu_tiny; .* colab_t4, cpu_small, gpt2_small, transfer"),
        (["nowhere.yaml"], InputError, "nowhere.yaml cannot be read"),
        (["cpu_small", "--config", "transfer"], UsageError, "two configs"),
        (["--config"], UsageError, "wants the name"),
        (["cpu_small", "--data_file", "nosuch.tsv"], InputError, "The data file nosuch.tsv does not exist"),
        (["cpu_small", "--data_file=nosuch.tsv"], InputError, "The data file nosuch.tsv does not exist"),
        (["--data_file", "--protocol", "book"], UsageError, "--data_file wants a value"),
        (["cpu_small", "--data_file="], UsageError, "--data_file wants a value"),
        (["--model_name_or_path"], UsageError, "--model_name_or_path wants a value"),
        (["cpu_small", "--model_name_or_path", "./nosuch"], InputError, "no folder ./nosuch; .*--model_name_or_path"),
        (["cpu_small", "--data_file", str(MESSAGES), "--dataset_name", "x"], UsageError, "not both"),
        (["cpu_small", "--learnin_rate", "1"], UsageError, "no option --learnin_rate"),
        (["cpu_small"], UsageError, "--output_dir"),
    ],
)
def test_what_is_wrong_with_the_words(words, error, reason):
    added = ["--output_dir", "out"] if "--output_dir" not in reason else []
    with pytest.raises(error, match=reason):
        configs.check_words([*words, *added], "spam")


def test_right_words_pass():
    configs.check_words(["cpu_small", "--data-file", str(MESSAGES), "--output_dir=out", "--bf16"], "spam")
    configs.check_words(["--no_restore_callback_states_from_checkpoint", "--output_dir", "out"], "spam")


@pytest.mark.parametrize("job", ["pretrain", "spam", "instruct"])
def test_the_options_are_those_of_the_dataclasses(job):
    parser = importlib.import_module(f"hf_gpt_scratch.training.{job}").make_parser()
    assert configs.option_names(job) == {field.name for kind in parser.dataclass_types for field in fields(kind)}
    assert {field.name for field in fields(ScratchTrainingArguments)} < configs.option_names(job)


@pytest.mark.parametrize("job", ["pretrain", "spam", "instruct"])
def test_the_help_ends_with_an_example_whose_words_are_right(job):
    *_, example = importlib.import_module(f"hf_gpt_scratch.training.{job}").make_parser().format_help().splitlines()
    start = f"Example: hf-gpt-scratch train {job} "
    assert example.startswith(start)
    configs.check_words(example.removeprefix(start).split(), job)


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
