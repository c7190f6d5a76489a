"""The wheel: nothing forgotten in pyproject.toml, and, with -m packaging, what it does where no checkout is near."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from hf_gpt_scratch.utils.constants import REPOSITORY

ROOT = Path(__file__).parents[1]
DEMO_DATA = ROOT / "training" / "demo_data"
BUILT_FROM = (
    "hf_gpt_scratch",
    "model_cards",
    "training",
    "hf_gpt_scratch_cli.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def setuptools_table() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_the_repository_is_the_one_that_pages_and_cards_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"]["Repository"] == REPOSITORY


def in_wheel(path: Path, table: dict) -> str:
    """The package, as pyproject.toml names it, of a folder of the checkout."""
    for package, folder in table["package-dir"].items():
        if path == ROOT / folder:
            return package
    return ".".join(path.relative_to(ROOT).parts)


def test_every_folder_of_modules_is_listed(setuptools_table):
    folders = {path.parent for path in (ROOT / "hf_gpt_scratch").rglob("*.py")}
    mapped = {ROOT / folder for folder in setuptools_table["package-dir"].values()}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    assert all(folder.is_dir() for folder in mapped)
    packages = setuptools_table["packages"]
    assert packages == sorted(set(packages))
    assert set(packages) == {in_wheel(folder, setuptools_table) for folder in folders | mapped}


def test_every_file_of_data_is_listed(setuptools_table):
    """No file of a package's folder that is not Python stays behind."""
    listed, there = set(), set()
    roots = [ROOT / "hf_gpt_scratch", *(ROOT / folder for folder in setuptools_table["package-dir"].values())]
    for package, patterns in setuptools_table["package-data"].items():
        folder = ROOT / setuptools_table["package-dir"].get(package, package.replace(".", "/"))
        for pattern in patterns:
            assert (found := list(folder.glob(pattern))), f"{package}: nothing is {pattern}"
            listed |= set(found)
    for root in roots:
        there |= {path for path in root.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {str(path.relative_to(ROOT)) for path in there - listed} == set()
    assert ROOT / "hf_gpt_scratch" / "py.typed" in listed


def test_every_requirement_has_its_tested_version():
    """constraints.txt pins what pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["docs"], *extras["test"]]
    names = {re.split(r"[\[><=]", one)[0].strip().lower().replace("_", "-") for one in wanted}
    names -= {project["name"]}
    assert names - pinned == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, because setuptools takes into a wheel what an older build left in the checkout."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "results", "pictures")
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(copy)]
    subprocess.run(command, check=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Runs the installed command, or the environment's Python, in an empty folder, and returns what it printed."""
    environment, folder = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    # The heavy packages of these tests, without what makes the checkout importable from there.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--force-reinstall"]
    subprocess.run([*command, str(wheel)], check=True, timeout=300)

    def run(*args: str, program: str = "hf-gpt-scratch") -> str:
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_TOKEN")}
        command = [str(environment / "bin" / program), *args]
        done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{args}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout

    run.folder, run.environment = folder, environment
    return run


@pytest.mark.packaging
def test_the_wheel_holds_every_module_and_all_data(wheel, setuptools_table):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "hf_gpt_scratch").rglob("*.py")}
    assert modules | {"hf_gpt_scratch/py.typed", "hf_gpt_scratch_cli.py"} <= names
    assert {f"hf_gpt_scratch/model_cards/{path.name}" for path in (ROOT / "model_cards").glob("*.md")} <= names
    for package, folder in setuptools_table["package-dir"].items():
        data = {
            path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.suffix in (".yaml", ".md")
        }
        assert {f"{package.replace('.', '/')}/{path}" for path in data} <= names
    assert not any(name.startswith(("tests/", "training/")) for name in names)


@pytest.mark.packaging
def test_the_installed_wheel_trains_classifies_checks_and_would_push(run):
    code = "import hf_gpt_scratch; print(hf_gpt_scratch.__file__)"
    assert Path(run("-c", code, program="python").strip()).is_relative_to(run.environment)
    options = [
        "--data_file",
        str(ROOT / "tests" / "support" / "messages.tsv"),
        "--output_dir",
        "spam",
        "--max_steps",
        "4",
    ]
    options += ["--train_tokenizer", "500", "--n_embd", "32", "--n_layer", "2", "--use_cpu", "true"]
    run("train", "spam", "--config", "cpu_small", *options)
    config = json.loads((run.folder / "spam" / "config.json").read_text())
    assert (config["n_embd"], config["prefix_loss_weight"]) == (32, 0.5)  # an option, and cpu_small's own
    found = json.loads(run("classify", "spam", "--json", "Win a prize now"))
    assert found["label"] in ("ham", "spam") and 0 <= found["probability"] <= 1
    assert "failed" not in run("check", "spam")
    would = run("push", "spam", "you/spam-filter", "--dry-run")
    assert "model.safetensors" in would and "README.md" in would and "nothing was" in would
