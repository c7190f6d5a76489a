"""What the README and docs/ say is there: links, anchors, commands, options, files, names in Python."""

import argparse
import ast
import importlib
import re
import shlex
import tomllib
from functools import cache
from importlib.util import find_spec

import pytest

from hf_gpt_scratch.cli import load_all, make_parser
from hf_gpt_scratch.commands import COMMANDS
from hf_gpt_scratch.training import configs
from support.pages import PAGES, ROOT, anchors, blocks, commands, links, name_of, read

CHANGES = {ROOT / "CHANGELOG.md"}  # tells of what is no longer there
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def of_pages(find) -> list:
    """A parameter for each thing that `find` finds on a page."""
    return [
        pytest.param(page, found, id=f"{name_of(page)}: {str(found)[:60]}")
        for page in PAGES
        for found in dict.fromkeys(find(read(page)))
    ]


@pytest.mark.parametrize(("page", "link"), of_pages(links))
def test_a_link_leads_somewhere(page, link):
    if link.startswith(("http://", "https://", "mailto:")):
        return
    target, _, anchor = link.partition("#")
    path = (page.parent / target).resolve() if target else page
    assert path.exists() and path.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(read(path))


def test_a_link_to_the_repository_names_this_one():
    for page in PAGES:
        for link in links(read(page)):
            if link.startswith("https://github.com/hf-"):
                assert link.startswith(HOME), link


@pytest.mark.parametrize(("page", "command"), of_pages(commands))
def test_a_command_is_understood(page, command):
    """By the real parser; where a text only names a command, it is there."""
    if page in CHANGES or re.search(r"\b[A-Z]{3,}\b.*\[|\||\.\.\.", command):  # `train JOB [CONFIG] [--key value ...]`
        return
    words = shlex.split(command)
    table, depth = COMMANDS, 0
    while isinstance(table, dict) and depth < len(words) and words[depth] in table:
        table, depth = table[words[depth]][1], depth + 1
    if words[:1] in ([], ["--print-completion"], ["--version"]) or words[-1].startswith("--help"):
        return
    assert depth, f"there is no command {words[0]}"
    if depth == len(words):
        return
    if words[0] == "train":
        _, options = configs.take_config(words[2:], words[1])
        given = {word.removeprefix("--") for word in options if word.startswith("--")}
        assert given <= configs.option_names(words[1])
    else:
        make_parser().parse_args(words)


OF_ACCELERATE = {"--deepspeed_multinode_launcher", "--machine_rank", "--num_processes"}


@cache
def every_option() -> set[str]:
    """Of all commands, jobs and benchmarks."""

    def options(parser: argparse.ArgumentParser) -> set[str]:
        own = set(parser._option_string_actions)
        below = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        return own.union(*(options(one) for choices in below for one in choices.values()))

    parser = make_parser()
    load_all(parser)
    jobs = {f"--{name}" for job in ("pretrain", "classify", "spam", "instruct") for name in configs.option_names(job)}
    benchmarks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "training" / "benchmarks").glob("*.py"))
    jobs |= set(re.findall(r'add_argument\(\s*"(--[a-z][\w-]*)"', benchmarks))
    return options(parser) | jobs | {"--help-all", "--key"}  # as in `--key value`


@pytest.mark.parametrize(("page", "option"), of_pages(re.compile(r"`(--[a-z][\w-]*)[^`]*`").findall))
def test_an_option_that_is_named_exists(page, option):
    assert page in CHANGES or option in every_option() | OF_ACCELERATE


@pytest.mark.parametrize(("page", "code"), of_pages(lambda text: [block.code for block in blocks(text, "python")]))
def test_python_compiles_and_its_names_exist(page, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and find_spec(node.module.partition(".")[0]):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hf_gpt_scratch":
            assert hasattr(importlib.import_module("hf_gpt_scratch"), node.attr)


PATH = re.compile(r"(?:^|[\s`(])((?:hf_gpt_scratch|training|tests|docs|model_cards)/[\w./-]*\w)")


@pytest.mark.parametrize(("page", "path"), of_pages(PATH.findall))
def test_a_file_that_is_named_exists(page, path):
    if page not in CHANGES:
        assert (ROOT / path).exists() or (page.parent / path).exists()


@pytest.mark.parametrize(("page", "mark"), of_pages(re.compile(r"pytest -m (\w+)").findall))
def test_a_mark_that_is_named_exists(page, mark):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert mark in {line.partition(":")[0] for line in settings["markers"]}


def test_every_mark_is_explained():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    page = read(ROOT / "tests" / "README.md")
    assert [line for line in settings["markers"] if f"pytest -m {line.partition(':')[0]}" not in page] == []


def test_every_command_and_config_is_described():
    pages = "".join(read(page) for page in PAGES if page not in CHANGES)
    assert [name for name in COMMANDS if f"hf-gpt-scratch {name}" not in pages] == []
    for job in ("pretrain", "classify", "spam", "instruct"):
        page = read(ROOT / "docs" / f"{ {'spam': 'classify'}.get(job, job) }.md")
        assert [name for name in configs.names(job) if f"`{name}`" not in page] == []


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert {page.name for page in (ROOT / "docs").glob("*.md")} == set(re.findall(r"[\w-]+\.md", navigation))


def test_the_readme_is_short():
    assert len(read(ROOT / "README.md").split()) <= 1200


def test_pictures_of_the_readme_are_here_or_badges_of_github():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", read(ROOT / "README.md"))
    sizes = [(ROOT / picture).stat().st_size for picture in pictures if not picture.startswith("https://")]
    assert sizes and max(sizes) < 100_000
    for picture in pictures:
        assert picture.startswith(("docs/", "https://img.shields.io/", "https://github.com/"))
