"""The modules of the commands: they import nothing heavy, and the example of each help is one that parses."""

import argparse
import ast
import shlex
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch import commands
from hf_gpt_scratch.cli import load_all, make_parser


def parsers(parser: argparse.ArgumentParser, *words: str) -> dict[str, argparse.ArgumentParser]:
    """The parser of every command below `parser`, by the command's words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = [parsers(one, *words, name) for name, one in action.choices.items()]
            return {name: one for some in found for name, one in some.items()}
    return {" ".join(words): parser}


PARSER = make_parser()
load_all(PARSER)
PARSERS = parsers(PARSER)
# Modules that import nothing heavy, nor do the `__init__` of their rooms.
LIGHT = {"conversion.choices", "training.configs", "training.interruption", "training.job_help"} | {
    f"utils.{name}"
    for name in ("console", "constants", "errors", "files", "provenance", "requirements", "terminal", "text")
}
PATHS = [path for path in sorted(Path(commands.__file__).parent.glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_command_imports_what_is_heavy_when_it_runs(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            assert {name.name for name in node.names} <= sys.stdlib_module_names
        if isinstance(node, ast.ImportFrom):
            is_light = node.module in sys.stdlib_module_names or node.module.startswith("collections")
            modules = {f"{node.module}.{name.name}" for name in node.names}
            is_ours = node.level == 1 or node.module in LIGHT or modules <= LIGHT
            assert is_ours if node.level else is_light, node.module


def examples(parser) -> list[str]:
    """The commands that a help shows."""
    lines = (line.strip().removeprefix("Example: ") for line in (parser.epilog or "").splitlines())
    return [line.rpartition("| ")[2] for line in lines if "hf-gpt-scratch " in line and "COMMAND" not in line]


@pytest.mark.parametrize("name", [name for name, parser in PARSERS.items() if parser.epilog])
def test_the_examples_of_a_help_are_of_that_command_and_parse(name):
    for example in examples(PARSERS[name]):
        program, *words = shlex.split(example)
        assert program == "hf-gpt-scratch" and example.startswith(
            f"hf-gpt-scratch {name.replace('app spam', 'app classify')} "
        )
        assert make_parser().parse_args(words).run is PARSERS[name].get_default("run")


@pytest.mark.parametrize("name", [name for name in PARSERS if not name.startswith("train ")])  # theirs: tests/e2e
def test_a_help_ends_with_an_example(name):
    assert examples(PARSERS[name])
    assert PARSERS[name].format_help().rstrip().endswith(examples(PARSERS[name])[-1])


def test_the_first_help_shows_examples_that_parse():
    assert len(examples(PARSER)) == 3
    for example in examples(PARSER):
        make_parser().parse_args(shlex.split(example)[1:])
