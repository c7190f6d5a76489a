"""
The plan of the house, as imports: each room imports only rooms below it, at the top of a file or inside a function.
"""

import ast
import re
from itertools import takewhile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_gpt_scratch"
MODEL = {"configuration_gpt_scratch", "modeling_gpt_scratch", "pipeline_gpt_scratch"}
# From the bottom up: a room may import those of the lines before its own, and itself.
FLOORS = [
    {"utils", "prompts"},
    MODEL,
    {"model_folder"},
    {"onnx_models"},
    {"tokenizer"},
    {"data"},
    {"conversion"},
    {"adapters"},
    {"pretrained"},
    {"generation"},
    {"classification", "faq"},
    {"evaluation", "hub"},
    {"training", "apps"},
    {"commands"},
    {"cli"},
]
NARROWER = {
    "generation": {"utils", "prompts", "model_folder", "tokenizer", "adapters", "pretrained"} | MODEL,
    "configuration_gpt_scratch": set(),
    "pipeline_gpt_scratch": set(),
    "modeling_gpt_scratch": MODEL,
}
WITH_ARGPARSE = {"commands", "training", "cli"}
CONSOLE = "hf_gpt_scratch_cli"  # above the package


def room(module: str) -> str:
    return module.split(".")[0]


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, `hf_gpt_scratch` for the package itself, and `argparse`."""
    package = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(package[: len(package) - node.level + 1])
            module = ".".join(part for part in (base, node.module) if part)
            # `from . import x` names a module, `from .x import y` is in one.
            named = [module] if node.module else [f"{module}.{one.name}".strip(".") for one in node.names]
            names = [f"{PACKAGE.name}.{one}" for one in named]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        found |= {name.removeprefix(f"{PACKAGE.name}.") for name in names if room(name) == PACKAGE.name}
        found |= {"argparse", CONSOLE} & set(names)
    return found


FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


def test_arrows_only_go_down():
    allowed, below = {}, set()
    for floor in FLOORS:
        for one in floor:
            allowed[one] = NARROWER.get(one, below) | {one}
        below |= floor
    wrong = [
        f"{name} imports {target}"
        for name, path in FILES.items()
        if name not in ("__init__", "__main__")
        for target in sorted(imports(path) - {"argparse"})
        if room(target) not in allowed[room(name)] and (name, target) != ("cli", PACKAGE.name)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_page_draws_the_same_floors():
    page = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8").partition("## The rooms")[2]
    rooms, drawing = set().union(*FLOORS), page.split("```\n")[1]
    assert [set(takewhile(rooms.__contains__, line.split())) for line in drawing.splitlines()] == FLOORS[::-1]
    [sentence] = re.findall(r"`generation` imports only .*?\.", page)
    named = set(re.findall(r"`(\w+)`", sentence)) | (MODEL if "the model" in sentence else set())
    assert named - {"generation"} == NARROWER["generation"]


def test_no_circle():
    graph = {
        name.removesuffix(".__init__"): {
            target if target in FILES or f"{target}.__init__" in FILES else target.rpartition(".")[0]
            for target in imports(path) - {"argparse"}
        }
        for name, path in FILES.items()
        if name != "__init__"
    }
    done, path = set(), []

    def visit(name: str) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done or name not in graph:
            return
        path.append(name)
        for target in graph[name]:
            visit(target)
        done.add(path.pop())

    for name in graph:
        visit(name)


def test_only_the_commands_know_argparse():
    with_it = {name for name, path in FILES.items() if "argparse" in imports(path)}
    assert {name for name in with_it if room(name) not in WITH_ARGPARSE} == set()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import hf_gpt_scratch", "hf_gpt_scratch"),
        ("from hf_gpt_scratch import check", "hf_gpt_scratch"),
        ("def f():\n    import hf_gpt_scratch_cli", "hf_gpt_scratch_cli"),
        ("if __name__ == '__main__':\n    from hf_gpt_scratch import cli", "hf_gpt_scratch"),
        ("from ..hub.check import check", "hub.check"),
        ("from .. import hub", "hub"),
    ],
)
def test_every_way_to_import_is_seen(monkeypatch, tmp_path, line, found):
    path = tmp_path / "hf_gpt_scratch" / "evaluation" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", path.parents[1])
    assert imports(path) == {found}
