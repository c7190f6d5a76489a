"""The Colab notebooks, run from top to bottom as Jupyter would, on small models and data."""

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import nbclient
import nbformat
import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / "training"
NOTEBOOKS = sorted((TRAINING / "notebooks").glob("*.ipynb"))
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
    values = {"OUTPUT_DIR": str(folder / "out")}
    if options is None:
        return values | {"SOURCE": str(checkpoint)}
    words = [word for key, value in {**SMALL, **options}.items() for word in (f"--{key}", str(value))]
    return values | {"OPTIONS": words} | ({"DATA": data} if data else {})


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, checkpoint, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    [parameters] = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    changed = settings(path.stem, checkpoint, tmp_path)
    known = re.findall(r"^(\w+) =", notebook.cells[parameters].source, re.MULTILINE)
    assert set(changed) <= set(known)
    lines = [f"{name} = {value!r}" for name, value in changed.items()]
    notebook.cells.insert(parameters + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= {"2_spam": 3, "4_your_checkpoint": 0}.get(path.stem, 1)
    assert (tmp_path / "out" / "config.json").is_file()


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
