"""
On Colab's packages the notebooks' install cell adds what is missing and changes nothing, and LoRA trains and loads.

    pytest -m colab

An environment with the versions of `packages.txt` is built in `.cache/` first, with Python 3.12 or 3.13.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hf_gpt_scratch
from support.colab import PACKAGES, ROOT, Colab, colab

FOLDERS = ("hf_gpt_scratch", "model_cards", "training/configs")  # that the package is built from
FILES = ("hf_gpt_scratch_cli.py", "pyproject.toml", "README.md", "LICENSE")
STORY = ROOT / "training" / "demo_data" / "story.txt"
INSTRUCTIONS = ROOT / "training" / "demo_data" / "instructions.json"
RUN_CELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell

result = InteractiveShell.instance().run_cell(open(sys.argv[1]).read())
sys.exit(not result.success)
"""
LOAD = """
import sys
from peft import AutoPeftModelForCausalLM
from hf_gpt_scratch import load

model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1])
print(type(model).__name__, load(sys.argv[1], device="cpu")[0].config.model_type)
"""
SMALL = ("--max_steps", 2, "--use_cpu", "true", "--save_strategy", "no", "--eval_strategy", "no")


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> str:
    """The address of a git repository of this checkout, with the tag that the notebooks name."""
    folder = tmp_path_factory.mktemp("repository")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for words in ("init -q", "add .", "commit -q -m Files", f"tag v{hf_gpt_scratch.__version__}"):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words.split()], cwd=folder, check=True)
    return f"file://{folder}"


@pytest.fixture(scope="module")
def environment() -> Colab:
    environment = colab()
    environment.reset()
    return environment


@pytest.fixture(scope="module")
def installed(environment, repository, tmp_path_factory) -> tuple[Colab, str, list[str]]:
    """The environment after the notebooks' install cell, what the cell printed, and the packages before it."""
    before = environment.packages()
    notebook = nbformat.read(ROOT / "training" / "notebooks" / "3_instructions.ipynb", as_version=4)
    [cell] = [cell.source for cell in notebook.cells if "install" in cell.metadata.get("tags", [])]
    file = tmp_path_factory.mktemp("cell") / "cell.py"
    file.write_text(re.sub(r'(?m)^REPOSITORY = ".*"$', f'REPOSITORY = "{repository}"', cell))
    assert repository in file.read_text()
    return environment, environment.run("-c", RUN_CELL, file, cwd=file.parent), before


@pytest.mark.colab
def test_the_install_cell_adds_three_packages_and_changes_none(installed):
    environment, said, before = installed
    assert "ERROR" not in said and "conflict" not in said
    assert set(before) - set(environment.packages()) == set()
    [line] = re.findall(r"^Changed: (.*)$", said, re.MULTILINE)
    assert {change.partition(" ->")[0] for change in line.split(", ")} == {
        f"{name} (new)" for name in ("evaluate", "shtab", "hf-gpt-scratch")
    }
    environment.pip("check")


@pytest.mark.colab
def test_lora_names_the_old_torchao_and_trains_without_it(installed, tmp_path):
    environment, *_ = installed

    def run(*words, status: int = 0) -> str:
        return environment.run("-m", "hf_gpt_scratch_cli", *words, cwd=tmp_path, status=status)

    run("train", "pretrain", "cpu_small", "--data_file", STORY, "--output_dir", "base", *SMALL)
    lora = ("train", "instruct", "--model_name_or_path", "base", "--lora_r", 4, "--output_dir", "adapter")
    lora += ("--activation_checkpointing", "true")  # which that transformers calls otherwise
    refusal = run(*lora, "--data_file", INSTRUCTIONS, *SMALL, status=1)
    assert refusal.count("\n") == 1 and "does not work with torchao 0.10.0, which is too old" in refusal

    [command] = re.findall(r": pip (uninstall -y torchao) ", refusal)
    environment.pip(*command.split())
    run(*lora, "--data_file", INSTRUCTIONS, *SMALL, "--answered_rows", 1, "--max_new_tokens", 4)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert "PeftModelForCausalLM gpt_scratch" in environment.run("-c", LOAD, "adapter", cwd=tmp_path)
    assert run("generate", "adapter", "--prompt", "The", "--max-new-tokens", 4)
    assert "failed" not in run("check", "base")


def test_the_lower_bounds_admit_what_colab_has():
    pinned = dict(line.split("==") for line in PACKAGES.read_text().splitlines() if not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    project = tomllib.loads(Path(ROOT, "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(one) for one in (*project["dependencies"], *extras["apps"], *extras["lora"])]
    bounded = [one for one in wanted if one.specifier]
    assert {one.name for one in bounded} >= {"torch", "transformers", "huggingface_hub", "gradio", "peft"}
    absent = {one.name for one in bounded if canonicalize_name(one.name) not in versions}
    assert absent == {"evaluate", "shtab"}  # which the install cell adds
    for one in (one for one in bounded if one.name not in absent):
        assert one.specifier.contains(versions[canonicalize_name(one.name)]), str(one)
