"""The Colab notebooks, run from top to bottom as Jupyter would, on small models and data, and pushed to a stand-in."""

import importlib.metadata
import json
import os
import re
import sys
import tomllib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from transformers import GPT2Config, GPT2LMHeadModel

import hf_gpt_scratch
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.training import configs
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.files import require_new
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

OLD_PHRASES = (
    "would be new",
    "stays here",
    "stays on",
    "stay at home",
    "to the bit",
    "could not be had",
    "come back whole",
)


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
    story, messages = TRAINING / "demo_data" / "story.txt", ROOT / "tests" / "support" / "messages.tsv"
    tuned = {
        "model_name_or_path": checkpoint,
        "max_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
        "save_steps": 4,
    }
    parameters = {
        "1_from_scratch": ({"data_file": story, "train_tokenizer": 400, "max_steps": 4, "sample_every": 2}, None),
        "2_spam": (tuned, ["--data_file", str(messages)]),
        "3_instructions": (
            {**tuned, "max_length": 220, "max_new_tokens": 8},
            ["--data_file", str(folder / "rows.json")],
        ),
        "4_your_checkpoint": (None, None),
    }
    options, data = parameters[name]
    values = {"OUTPUT_DIR": str(folder / "out"), "REPO_ID": REPO_ID}
    if options is None:
        return values | {"SOURCE": str(checkpoint)}
    words = [word for key, value in {**SMALL, **options}.items() for word in (f"--{key}", str(value))]
    if data is None:
        return values | {"OPTIONS": words}
    return values | {"SETTINGS": ["colab_t4"], "OPTIONS": words, "DATA": data}


def cells(path: Path, tag: str) -> list[str]:
    """The cells of a tag."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs_and_the_model_is_pushed(path, checkpoint, hub, tmp_path, monkeypatch):
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
    said = {
        tag: "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        for tag in cell.metadata.get("tags", [])
        if cell.cell_type == "code"
    }
    assert "Loaded back from there with AutoModel" in said["push"]
    assert "Open http://127.0.0.1" in said.get("app", "Open http://127.0.0.1")
    repo = hub.repos[REPO_ID]
    pushed = repo.commits[repo.refs["main"]]
    assert pushed["model.safetensors"] == (tmp_path / "out" / "model.safetensors").read_bytes()
    assert {"config.json", "tokenizer.json", "configuration_gpt_scratch.py", "modeling_gpt_scratch.py"} <= set(pushed)
    assert REPO_ID in pushed["README.md"].decode()


def source(tag: str, path: Path = NOTEBOOKS[1]) -> str:
    """The cell of a tag as Python, in which its magics are calls of `get_ipython().run_line_magic`."""
    [cell] = cells(path, tag)
    return TransformerManager().transform_cell(cell)


class Shell:
    """Stands in for IPython: keeps the commands, and installs two packages where it is asked to install one."""

    def __init__(self, packages: dict[str, str]):
        self.packages, self.commands = packages, []

    def run_line_magic(self, magic: str, line: str) -> None:
        self.commands.append(f"{magic} {line}")
        if line.startswith("install"):
            self.packages |= {"hf-gpt-scratch": "9.0", "numpy": "2.2"}


@pytest.fixture
def shell(monkeypatch) -> Shell:
    found = namedtuple("Distribution", "name version")
    shell = Shell({"torch": "2.11.0", "numpy": "2.1"})
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [found(*one) for one in shell.packages.items()])
    return shell


def test_the_install_cell_says_what_it_changed(shell, capsys):
    exec(source("install"), {"get_ipython": lambda: shell})
    expected = 'pip install -q "hf-gpt-scratch[apps,lora] @ git+{REPOSITORY}@{VERSION}"'
    assert shell.commands == [expected]
    assert capsys.readouterr().out == "Changed: numpy 2.1 -> 2.2, hf-gpt-scratch (new) -> 9.0\n"


def test_the_install_cell_installs_nothing_twice(shell, capsys):
    shell.packages["hf-gpt-scratch"] = "9.0"
    exec(source("install"), {"get_ipython": lambda: shell})
    assert shell.commands == [] and "nothing" in capsys.readouterr().out


@pytest.mark.parametrize("is_there", [True, False])
def test_the_gpu_cell_says_what_will_be_used(is_there, monkeypatch, capsys):
    properties = namedtuple("Properties", "name total_memory")("Tesla T4", 15 * 2**30)
    monkeypatch.setattr("torch.cuda.is_available", lambda: is_there)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: properties)
    names = {}
    exec(source("gpu"), names)
    said = capsys.readouterr().out
    assert names["has_gpu"] == is_there
    assert ("Tesla T4 with 15 GiB" in said) == is_there and ("T4 GPU and run" in said) != is_there


@pytest.mark.parametrize("path", NOTEBOOKS[1:3], ids=lambda path: path.stem)
@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_settings_are_options_of_the_job(path, has_gpu):
    names = {"has_gpu": has_gpu}
    exec(source("parameters", path), names)
    job, words = {"2_spam": "spam", "3_instructions": "instruct"}[path.stem], names["SETTINGS"]
    configs.check_words([*words, "--output_dir", names["OUTPUT_DIR"]], job)
    assert (words == ["colab_t4"]) == has_gpu


@pytest.mark.parametrize("number, job", list(enumerate(["pretrain", "spam", "instruct"])))
def test_the_training_cell_can_be_run_again(number, job, tmp_path, monkeypatch):
    words, path = [], NOTEBOOKS[number]
    monkeypatch.setattr(f"hf_gpt_scratch.training.{job}.main", words.extend)
    names = {"has_gpu": False}
    exec(source("parameters", path), names)
    exec(source("train", path), names | {"OUTPUT_DIR": str(tmp_path)})
    (tmp_path / "metrics.json").write_text("{}")
    configs.check_words(words, job)
    at = words.index("--overwrite_output_dir")
    without = words[:at] + words[at + 2 :]
    with pytest.raises(InputError, match="already holds a run"):
        configs.check_words(without, job)
    (tmp_path / "run.json").write_text("{}")  # of this command: it goes on, as the notebook says
    configs.check_words(without, job)


def test_every_training_replaces_an_earlier_run():
    calls = re.compile(r"\b(?:pretrain|spam|instruct)\.main\((.*)\)")
    texts = [cell.source for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    trainings = [words for text in texts for words in calls.findall(text)]
    assert len(trainings) == 3 and all('"--overwrite_output_dir", "true"' in words for words in trainings)


def test_the_conversion_can_be_run_again_and_deletes_nothing_else(tmp_path, monkeypatch):
    def convert(words: list[str]) -> int:
        require_new(words[2])
        Path(words[2]).mkdir()
        Path(words[2], "conversion.json").write_text("{}")
        return 0

    monkeypatch.setattr("hf_gpt_scratch.cli.main", convert)
    names = {"SOURCE": "gpt2", "OPTIONS": [], "OUTPUT_DIR": str(tmp_path / "out")}
    for _ in range(2):
        exec(source("convert", NOTEBOOKS[3]), names)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        exec(source("convert", NOTEBOOKS[3]), names | {"OUTPUT_DIR": str(tmp_path)})
    assert (tmp_path / "thesis.txt").is_file()


class Colab:
    """Colab's module, with a secret or without."""

    def __init__(self, token: str | None):
        self.token, self.mounted = token, []
        self.drive = self.userdata = self

    def get(self, name: str) -> str:
        if self.token is None:
            raise LookupError(name)
        return self.token

    def mount(self, folder: str) -> None:
        self.mounted.append(folder)


@pytest.fixture
def forms(monkeypatch) -> list:
    """No token, and the login forms that are shown."""
    shown = []
    monkeypatch.setattr("huggingface_hub.get_token", lambda: os.environ.get("HF_TOKEN"))
    monkeypatch.setattr("huggingface_hub.notebook_login", lambda: shown.append("form"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return shown


@pytest.mark.parametrize("repo_id, token, expected", [("", None, 0), ("me/it", None, 1), ("me/it", "hf_x", 0)])
@pytest.mark.parametrize("is_colab", [True, False])
def test_the_login_cell_asks_only_for_a_push_without_a_token(is_colab, repo_id, token, expected, forms, monkeypatch):
    if is_colab:
        monkeypatch.setitem(sys.modules, "google.colab", Colab(token))
        monkeypatch.setenv("HF_TOKEN", "")  # so that what the cell sets goes again
    elif token:
        monkeypatch.setenv("HF_TOKEN", token)
    exec(source("login"), {"REPO_ID": repo_id, "OUTPUT_DIR": "runs/it", "DRIVE": False})
    assert len(forms) == expected


@pytest.mark.parametrize("drive", [True, False])
def test_the_model_goes_to_the_drive_only_where_that_is_wanted(drive, forms, monkeypatch, capsys):
    colab, names = Colab(None), {"REPO_ID": "", "OUTPUT_DIR": "runs/it", "DRIVE": drive}
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    exec(source("login"), names)
    assert colab.mounted == ["/content/drive"] * drive
    exec(source("login"), names)  # again
    assert names["OUTPUT_DIR"] == ("/content/drive/MyDrive/" if drive else "") + "runs/it"
    assert "No secret HF_TOKEN was found; add it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings, commands",
    [
        (["colab_t4"], []),
        (["lora"], ["pip uninstall -q -y torchao"]),
        (["colab_t4", "--lora_r", "8"], ["pip uninstall -q -y torchao"]),
        (["qlora"], ["pip uninstall -q -y torchao", "pip install -q bitsandbytes"]),
    ],
)
def test_an_adapter_gets_the_packages_it_needs(settings, commands, shell):
    names = {"get_ipython": lambda: shell, "SETTINGS": settings, "OPTIONS": []}
    exec(source("adapter", NOTEBOOKS[2]), names)
    assert shell.commands == commands


@pytest.mark.parametrize("repo_id, command", [("", ["check", "out"]), ("me/it", ["push", "out", "me/it"])])
def test_the_last_cell_pushes_where_a_repository_is_named(repo_id, command, monkeypatch):
    commands = []
    monkeypatch.setattr("hf_gpt_scratch.cli.main", lambda words: commands.append(words) or 0)
    exec(source("push"), {"OUTPUT_DIR": "out", "REPO_ID": repo_id})
    assert commands == [command]


@pytest.mark.parametrize("tag", ["install", "gpu", "login", "push"])
def test_the_shared_cells_are_the_same_everywhere(tag):
    assert len({tuple(cells(path, tag)) for path in NOTEBOOKS}) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_badge_and_the_installation_name_this_repository_and_version(path):
    home = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    badge = f"{home.removeprefix('https://github.com/')}/blob/main/training/notebooks/{path.name}"
    assert badge in nbformat.read(path, as_version=4).cells[0].source
    [install] = cells(path, "install")
    assert f'REPOSITORY = "{home}"\nVERSION = "v{hf_gpt_scratch.__version__}"\n' in install
    assert path.read_text(encoding="utf-8").count(home.removeprefix("https://")) == 1  # and the badge's own address


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_stored_outputs_are_small_and_hold_nothing_of_a_machine(path):
    notebook, content = nbformat.read(path, as_version=4), path.read_text(encoding="utf-8")
    assert "outputs stored in this notebook come from" in notebook.cells[0].source
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    silent = {"parameters", "adapter"}
    assert all(cell.outputs for cell in code if not silent & {*cell.metadata.get("tags", [])})
    assert len(content) < 200_000
    assert not re.search(r"/(tmp|home|root|work|Users)/|\\u001b|Warning|Traceback", content)
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_stored_outputs_hold_no_absolute_path_and_no_old_message(path):
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") for output in outputs]
    texts += [text for output in outputs for kind, text in output.get("data", {}).items() if kind != "image/png"]
    shown = "\n".join(texts)
    assert [phrase for phrase in OLD_PHRASES if phrase in shown] == []
    assert re.findall(r"(?<![\w:/.<])/\w+|\b[A-Z]:\\", shown) == []


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["1_from_scratch", "2_spam", "3_instructions", "4_your_checkpoint"]
