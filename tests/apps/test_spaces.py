"""The pages of a repository on the Hub, and as a Space that runs where the package is not installed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.apps import chat
from hf_gpt_scratch.apps.space import export_space
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.model_folder import contents
from hf_gpt_scratch.pretrained import load_pretrained
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.in_browser import client, program, started


@pytest.mark.parametrize("app, other", [("spam", "chat"), ("chat", "spam")])
def test_no_space_is_written_that_would_not_run(models, tmp_path, capsys, app, other):
    pytest.importorskip("gradio")
    assert main(["app", app, str(models[other]), "--export-space", str(tmp_path / "space")]) == 1
    assert capsys.readouterr().err.count("error:") == 1 and not (tmp_path / "space").exists()


def test_no_space_is_written_of_a_model_that_is_not_fit_to_share(models, tmp_path, capsys):
    pytest.importorskip("gradio")
    folder = shutil.copytree(models["spam"], tmp_path / "model")
    (folder / "README.md").write_text("my token is hf_" + "a1" * 17)
    assert main(["app", "spam", str(folder), "--export-space", str(tmp_path / "space")]) == 1
    shown = capsys.readouterr()
    assert (
        "README.md holds a Hugging Face token" in shown.out
        and "1 of" in shown.err
        and not (tmp_path / "space").exists()
    )


@pytest.fixture
def offline_hub(models, tmp_path) -> dict[str, str]:
    """The environment of a machine that has downloaded the repository you/spam and is offline."""
    repository = tmp_path / "hub" / "models--you--spam"
    shutil.copytree(models["spam"], repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    return {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}


def test_a_repository_is_shown_under_its_name(offline_hub):
    pytest.importorskip("gradio")
    with started(program("spam", "you/spam"), env=offline_hub) as (_, address):
        assert "Model: <b>you/spam</b>" in json.dumps(client(address).config)
        assert "spam" in client(address).predict("see you at home", 0.25, api_name="/judge")[0]


def test_a_space_of_a_repository_loads_it_from_the_hub(offline_hub, tmp_path):
    pytest.importorskip("gradio")
    out = tmp_path / "my space"
    command = program("spam", "you/spam", "--export-space", out)
    done = subprocess.run(command, env=offline_hub, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert [shlex.split(line)[-1] for line in commands] == ["space", str(out), "requirements.txt", "app.py"]
    assert f"hf upload you/your-space '{out}' --repo-type space" in commands
    assert "peft" not in (out / "requirements.txt").read_text()
    assert "serve('you/spam', \"0.0.0.0\", 7860, name='you/spam')" in (out / "app.py").read_text()
    assert not (out / "model").exists() and "`you/spam`" in (out / "README.md").read_text()


def test_a_space_of_an_adapter_installs_peft_and_loads_all_from_the_hub(models, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(
        load_pretrained(GPTScratchForCausalLM, models["chat"]),
        peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"),
    )
    adapted.save_pretrained(tmp_path / "adapter")
    load_tokenizer(models["chat"]).save_pretrained(tmp_path / "adapter")
    places = {"you/lora": tmp_path / "adapter", "you/base": models["chat"]}
    monkeypatch.setattr(contents, "resolve_source", lambda name: places.get(str(name), Path(name)))
    with pytest.raises(InputError, match="holds an adapter, and a Space loads an adapter from the Hub"):
        export_space(tmp_path / "adapter", tmp_path / "space", chat)
    with pytest.raises(InputError, match="base model of the adapter you/lora, .* is not a Hub repository"):
        export_space("you/lora", tmp_path / "space", chat)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "you/base"
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    assert export_space("you/lora", tmp_path / "space", chat) == 0
    assert re.search(r"^peft\b[^;]*$", (tmp_path / "space" / "requirements.txt").read_text(), re.MULTILINE)


def test_sharing_and_writing_a_space_exclude_each_other(models, tmp_path, capsys):
    assert main(["app", "spam", str(models["spam"]), "--share", "--export-space", str(tmp_path / "space")]) == 2
    assert "--share is for a page that is served" in capsys.readouterr().err


@pytest.mark.browser  # minutes on a busy machine
@pytest.mark.parametrize(("app", "model"), [("classify", "spam"), ("chat", "chat")])
def test_a_space_runs_by_itself(models, tmp_path, capsys, app, model):
    pytest.importorskip("gradio")
    out = tmp_path / "space"
    assert main(["app", app, str(models[model]), "--export-space", str(out)]) == 0
    requirements = (out / "requirements.txt").read_text()
    assert (
        re.search(r"^gradio==", requirements, re.MULTILINE) and "torch" in requirements and "extra" not in requirements
    )
    readme = (out / "README.md").read_text()
    assert f'python_version: "{sys.version_info.major}.{sys.version_info.minor}"' in readme
    assert "sdk: gradio" in readme and (out / "model" / "model.safetensors").is_file()
    assert not list(out.rglob("__pycache__"))
    recorded = json.loads((out / "model" / "examples.json").read_text(encoding="utf-8"))
    assert recorded
    assert "examples; if the training data is private" in capsys.readouterr().out
    code = (out / "app.py").read_text().replace('"0.0.0.0", 7860', '"127.0.0.1", None')
    code += "\n"
    check = (
        "import hf_gpt_scratch, pathlib; assert pathlib.Path.cwd() in pathlib.Path(hf_gpt_scratch.__file__).parents\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with started([sys.executable, "-W", "ignore", "-c", check + code], cwd=out, env=environment) as (_, address):
        assert client(address).view_api(return_format="dict")["named_endpoints"]
        shown = json.dumps(client(address).config)
        assert f"Model: <b>{models[model].name}</b>" in shown
        assert all(json.dumps(next(iter(one.values())))[1:-1] in shown for one in recorded)
    assert main(["app", app, str(models[model]), "--export-space", str(out)]) == 1  # it is there already
