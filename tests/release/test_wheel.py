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
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement

from hf_gpt_scratch import __version__
from hf_gpt_scratch.training import configs
from hf_gpt_scratch.utils.constants import REPOSITORY
from support.stand_in import hub_stand_in

ROOT = Path(__file__).parents[2]
DEMO_DATA = ROOT / "training" / "demo_data"
SCRIPTS = {
    "pretrain.py": "pretrain",
    "finetune_classify.py": "classify",
    "finetune_spam.py": "spam",
    "finetune_instruct.py": "instruct",
    "prefer.py": "prefer",
}
TINY = ("--max_steps", "4", "--train_tokenizer", "500", "--n_embd", "32", "--n_layer", "2", "--use_cpu", "true")
TO_HUB = ("--push_to_hub", "true", "--hub_model_id", "user/spam")
MESSAGES = ("--data_file", str(ROOT / "tests" / "support" / "messages.tsv"))


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


def header(script: str) -> tuple[dict, str]:
    """What a script's lines of inline metadata (PEP 723) say, and the script."""
    text = (ROOT / "training" / script).read_text(encoding="utf-8")
    [block] = re.findall(r"(?m)^# /// script$\n((?:^#(?: .*)?$\n)+)^# ///$", text)
    return tomllib.loads(re.sub(r"(?m)^# ?", "", block)), text


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_alone_names_this_package(script):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked, text = header(script)
    [dependency] = asked["dependencies"]
    name, extras, address = re.fullmatch(r"([\w-]+)(?:\[([\w,]+)\])? @ (\S+)", dependency).groups()
    assert (name, asked["requires-python"]) == (project["name"], project["requires-python"])
    assert address == f"git+{REPOSITORY}@v{__version__}"  # as in the notebooks
    assert set((extras or "").split(",")) - {""} <= project["optional-dependencies"].keys()
    job = SCRIPTS[script]
    needed = {
        name for name in ("lora", "trl") if f"--{name}_r" in job_options(job) or (name, job) == ("trl", "prefer")
    }
    assert needed == set((extras or "").split(",")) - {""}
    assert f'run(["train", "{job}", *argv]' in text


def job_options(job: str) -> set[str]:
    return {f"--{name}" for name in configs.option_names(job)}


@pytest.mark.packaging
def test_the_wheel_holds_the_packages_and_nothing_else(distributions, setuptools_table):
    table, wanted = setuptools_table, {"hf_gpt_scratch_cli.py"}
    folders = {name: ROOT / table["package-dir"].get(name, name.replace(".", "/")) for name in table["packages"]}
    for package, folder in folders.items():
        there = list(folder.glob("*.py"))
        there += [path for pattern in table["package-data"].get(package, ()) for path in folder.glob(pattern)]
        wanted |= {f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}" for path in there}
    info = f"hf_gpt_scratch-{__version__}.dist-info"
    files = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    wanted |= {f"{info}/{name}" for name in files}
    assert set(zipfile.ZipFile(distributions.wheel).namelist()) == wanted


@pytest.mark.packaging
def test_the_installed_wheel_trains_classifies_checks_and_would_push(run):
    code = "import hf_gpt_scratch; print(hf_gpt_scratch.__file__)"
    assert Path(run("-c", code, program="python").strip()).is_relative_to(run.environment)
    run("train", "spam", "--config", "cpu_small", *MESSAGES, "--output_dir", "spam", *TINY)
    config = json.loads((run.folder / "spam" / "config.json").read_text())
    assert (config["n_embd"], config["prefix_loss_weight"]) == (32, 0.5)  # an option, and cpu_small's own
    found = json.loads(run("classify", "spam", "--json", "Win a prize now"))
    assert found["label"] in ("ham", "spam") and 0 <= found["probability"] <= 1
    assert "failed" not in run("check", "spam")
    would = run("push", "spam", "you/spam-filter", "--dry-run")
    assert "model.safetensors" in would and "README.md" in would and "nothing was" in would


@pytest.mark.packaging
def test_a_script_alone_trains_and_pushes(run, tmp_path):
    """Its config comes with the package; nothing of the checkout is near."""
    script = shutil.copy(ROOT / "training" / "finetune_spam.py", run.folder)
    with hub_stand_in() as hub:
        words = ("cpu_small", *MESSAGES, "--output_dir", "alone", *TINY, *TO_HUB)
        run(str(script), *words, program="python", HF_HUB_OFFLINE="0", **hub.environment(tmp_path / "home"))
        files = hub.repos["user/spam"].commits[hub.repos["user/spam"].refs["main"]]
    assert {"model.safetensors", "modeling_gpt_scratch.py", "README.md"} <= files.keys()
    assert json.loads(files["config.json"])["prefix_loss_weight"] == 0.5  # cpu_small's


def empty_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel without files: what uv installs in place of a package that is on the path anyway."""
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as file:
        info = f"{stem}.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.mark.packaging
def test_uv_runs_a_script_by_its_address(distributions, tmp_path):
    """From a server, with the wheel in place of the repository, and the heavy packages as they are here."""
    if (uv := shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)) is None:
        pytest.skip("uv is not installed: pip install uv")
    (links := tmp_path / "links").mkdir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for one in map(Requirement, project["dependencies"]):
        empty_wheel(links, one.name, version(one.name))
    asked, text = header("finetune_spam.py")
    address = asked["dependencies"][0].partition(" @ ")[2]
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "train.py").write_text(text.replace(address, distributions.wheel.as_uri()))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with hub_stand_in() as hub, ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = {"UV_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": sysconfig.get_path("purelib")}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "UV_"))}
        address = f"http://127.0.0.1:{server.server_port}/train.py"
        words = (address, "cpu_small", *MESSAGES, "--output_dir", "spam", *TINY, *TO_HUB)
        environment = clean | here | hub.environment(tmp_path / "home")
        command = [uv, "run", "--no-index", "--find-links", links, "--python", sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        server.shutdown()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "user/spam" in hub.repos
