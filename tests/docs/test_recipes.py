"""The code of the README and of docs/recipes.md runs as it stands, on small models and a stand-in for the Hub."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForSequenceClassification
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from support.models import save_model, save_tokenizer
from support.pages import ROOT, blocks, read
from support.stand_in import USER, Repo, hub_stand_in

pytestmark = pytest.mark.docs
RECIPES = blocks(read(ROOT / "docs" / "recipes.md"))
SECTIONS = list(dict.fromkeys(block.section for block in RECIPES))
STORY = (ROOT / "training" / "demo_data" / "story.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """The three models of the demo, but that they have learned nothing."""
    runs = tmp_path_factory.mktemp("models") / "runs"
    shape = {"n_positions": 256, "texts": [STORY], "tokens": 400}
    save_model(runs / "demo" / "writer", **shape)
    save_model(runs / "demo" / "follower", **shape, chat=CHAT_TEMPLATE)
    labels = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    save_model(runs / "demo" / "spam", GPTScratchForSequenceClassification, **shape, **labels)
    return runs


@pytest.fixture
def clone(models, tmp_path, monkeypatch):
    """
    Runs a block where a reader would: in a clone after the demo, with the environment activated, logged in to the Hub.
    """
    shutil.copytree(models, tmp_path / "runs")
    (tmp_path / "training").symlink_to(ROOT / "training")
    programs = tmp_path / "programs"
    programs.mkdir()
    command = programs / "hf-gpt-scratch"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -W ignore -m hf_gpt_scratch_cli "$@"\n')
    command.chmod(0o755)
    with hub_stand_in() as hub:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment["PATH"] = os.pathsep.join([str(programs), str(Path(sys.executable).parent), environment["PATH"]])

        def run(language: str, code: str) -> str:
            code = re.sub(r"\byou/", f"{USER}/", code)
            if language == "bash":
                code = "\n".join(
                    line for line in code.splitlines() if not line.startswith(("pip install", "hf auth login"))
                )
            words = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
            done = subprocess.run(
                [*words, code],
                cwd=tmp_path,
                env=environment,
                input="What is the capital of France?\n",
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, f"{code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            return done.stdout

        run.hub, run.folder = hub, tmp_path
        yield run


def need(code: str) -> None:
    """Skips where a package that the code imports is absent."""
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in [*names, *([node.module] if isinstance(node, ast.ImportFrom) else [])]:
            if find_spec(name.partition(".")[0]) is None:
                pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_recipe_runs(section, clone):
    recipe = [block for block in RECIPES if block.section == section]
    for block in recipe:
        if block.language == "python":
            need(block.code)
    said = [clone(block.language, block.code) for block in recipe]
    assert any(said)


def test_the_demo_goes_to_the_hub_and_is_chatted_with(clone):
    [commands] = [block.code for block in blocks(read(ROOT / "README.md"), "bash") if "push" in block.code]
    said = clone("bash", commands)
    assert f"{USER}/my-follower" in clone.hub.repos and "Loaded back from there" in said
    assert said.rstrip().splitlines()[-1]  # its answer


def stock_gpt2(folder: Path) -> dict[str, bytes]:
    """The files of a repository as small as one of stock GPT-2 can be."""
    save_tokenizer(folder, [STORY], 400)
    GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=64, n_embd=32, n_layer=1, n_head=2)).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_readme_trains_pushes_loads_and_uses(clone, tmp_path):
    gpt2 = clone.hub.repos["openai-community/gpt2"] = Repo(private=False)
    gpt2.commit("main", stock_gpt2(tmp_path / "gpt2"))
    train, load, use = (block.code for block in blocks(read(ROOT / "README.md"), "python"))
    assert len(train.split("\n\n", 2)[2].splitlines()) == 10  # as the README says
    clone("python", train)
    [name] = clone.hub.repos.keys() - {"openai-community/gpt2"}
    repo = clone.hub.repos[name]
    assert {"config.json", "model.safetensors", "modeling_gpt_scratch.py"} <= set(repo.commits[repo.refs["main"]])
    assert clone("python", f"import sys\nsys.modules['hf_gpt_scratch'] = None\n{load}").startswith("Tilly looked at")
    assert clone("python", use)
    assert b"license: mit" in repo.commits[repo.refs["main"]]["README.md"]
