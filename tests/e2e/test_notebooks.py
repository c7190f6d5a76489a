"""The Colab notebooks, run from top to bottom as Jupyter would, on small models and data, and pushed to a stand-in."""

import importlib.metadata
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from transformers import GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch.tokenizer import train_tokenizer
from support.stand_in import USER, Hub, hub_stand_in

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / "training"
NOTEBOOKS = sorted((TRAINING / "notebooks").glob("*.ipynb"))
REPO_ID = f"{USER}/notebook"
SMALL = {
    "use_cpu": True,
    "disable_tqdm": True,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A stock GPT-2 of random weights and its tokenizer, in place of the Hub's."""
    folder = tmp_path_factory.mktemp("checkpoint")
    story = (TRAINING / "demo_data" / "story.txt").read_text(encoding="utf-8")
    tokenizer = train_tokenizer([story], 400, False, 256)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=2, n_head=2, **ends)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A stand-in that processes started from here take for the Hub."""
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    with hub_stand_in() as server:
        for name, value in server.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        yield server


def settings(name: str, checkpoint: Path, folder: Path) -> dict:
    """What replaces a notebook's parameters."""
    rows = [{"instruction": f"Count to {n}.", "input": "", "output": " ".join(map(str, range(n)))} for n in range(40)]
    (folder / "rows.json").write_text(json.dumps(rows[1:]))
    story, messages = TRAINING / "demo_data" / "story.txt", TRAINING / "demo_data" / "messages.tsv"
    tuned = {
        "model_name_or_path": checkpoint,
        "max_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
    }
    parameters = {
        "1_from_scratch": ({"data_file": story, "train_tokenizer": 400, "max_steps": 4, "sample_every": 2}, []),
        "2_spam": ({**tuned, "save_steps": 4}, ["--data_file", str(messages)]),
        "3_instructions": (
            {**tuned, "save_steps": 4, "max_length": 220, "max_new_tokens": 8},
            ["--data_file", str(folder / "rows.json")],
        ),
        "4_your_checkpoint": (None, None),
    }
    options, data = parameters[name]
    values = {"OUTPUT_DIR": str(folder / "out"), "REPO_ID": REPO_ID}
    if options is None:
        return values | {"SOURCE": str(checkpoint)}
    words = [word for key, value in {**SMALL, **options}.items() for word in (f"--{key}", str(value))]
    return values | {"OPTIONS": words} | ({"DATA": data} if data else {})


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_the_last_one_pushes(path, checkpoint, hub, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    [parameters] = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    changed = settings(path.stem, checkpoint, tmp_path)
    known = re.findall(r"^(\w+) =", notebook.cells[parameters].source, re.MULTILINE)
    assert set(changed) <= set(known)
    lines = [f"{name} = {value!r}" for name, value in changed.items()]
    notebook.cells.insert(parameters + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    where = {"metadata": {"path": str(path.parent)}}  # as Jupyter does
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= {"2_spam": 3, "4_your_checkpoint": 0}.get(path.stem, 1)
    said = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert "Loaded back from there by AutoModel" in said
    repo = hub.repos[REPO_ID]
    pushed = repo.commits[repo.refs["main"]]
    assert pushed["model.safetensors"] == (tmp_path / "out" / "model.safetensors").read_bytes()
    assert {"config.json", "tokenizer.json", "configuration_gpt_scratch.py", "modeling_gpt_scratch.py"} <= set(pushed)
    assert REPO_ID in pushed["README.md"].decode()


def source(path: Path, cell: int) -> str:
    """A cell as Python, in which its shell commands are calls of `get_ipython().system`."""
    return TransformerManager().transform_cell(nbformat.read(path, as_version=4).cells[cell].source)


class Shell:
    """Stands in for IPython: keeps the commands, and makes of `git clone` a folder with the scripts."""

    def __init__(self):
        self.commands = []

    def system(self, command: str) -> None:
        self.commands.append(command)
        if command.startswith("git clone"):
            clone(Path("hf_gpt_scratch"))


def clone(folder: Path) -> Path:
    (folder / "training").mkdir(parents=True)
    (folder / "training" / "demo.py").touch()
    return folder


@pytest.mark.parametrize("is_installed", [True, False])
@pytest.mark.parametrize("start", ["root", "notebooks", "above", "elsewhere"])
def test_the_first_cell_finds_the_scripts_or_clones_them(start, is_installed, tmp_path, monkeypatch):
    root = tmp_path / "hf_gpt_scratch"
    if start != "elsewhere":
        (clone(root) / "training" / "notebooks").mkdir()
    monkeypatch.chdir({"root": root, "notebooks": root / "training" / "notebooks"}.get(start, tmp_path))
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: iter([name] if is_installed else []))
    shell = Shell()
    exec(source(NOTEBOOKS[0], 1), {"get_ipython": lambda: shell})
    assert Path.cwd() == root
    programs = [" ".join(command.split()[:2]) for command in shell.commands]
    cloned, installed = ["git clone"] * (start == "elsewhere"), ["pip list", "pip install"] * (not is_installed)
    assert programs == cloned + installed


@pytest.mark.parametrize("repo_id, command", [("", ["check", "out"]), ("me/it", ["push", "out", "me/it"])])
def test_the_last_cell_pushes_where_a_repository_is_named(repo_id, command, monkeypatch):
    commands = []
    monkeypatch.setattr("hf_gpt_scratch.cli.main", lambda words: commands.append(words) or 0)
    exec(source(NOTEBOOKS[0], -1), {"OUTPUT_DIR": "out", "REPO_ID": repo_id})
    assert commands == [command]


@pytest.mark.parametrize("cell", [1, -1])
def test_the_first_and_last_cells_are_the_same_everywhere(cell):
    assert len({source(path, cell) for path in NOTEBOOKS}) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_badge_and_the_installation_name_this_repository(path):
    home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    notebook = nbformat.read(path, as_version=4)
    assert (
        f"{home.removeprefix('https://github.com/')}/blob/main/training/notebooks/{path.name}"
        in notebook.cells[0].source
    )
    assert f"git clone -q {home}\n" in notebook.cells[1].source and "-c /tmp/keep.txt" in notebook.cells[1].source
    assert not any(cell.get("outputs") for cell in notebook.cells)  # runs are not committed


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["1_from_scratch", "2_spam", "3_instructions", "4_your_checkpoint"]
