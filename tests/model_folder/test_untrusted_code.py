"""
Nobody's code runs unasked: what a folder holds or names is refused, by its name, unless the user trusts it; and what
lies in the folder where a command is started is not imported.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.model_folder.clean_process import run_jobs
from hf_gpt_scratch.model_folder.code import require_own_code
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("sound"), chat=CHAT_TEMPLATE, n_positions=256)


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "model")


@pytest.fixture
def trace(tmp_path) -> Path:
    """A file that is there once the code of `evil` has run."""
    return tmp_path / "it-ran"


def evil(trace: Path) -> str:
    return f"open({str(trace)!r}, 'w').close()\n"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def alter_modeling(folder: Path, trace: Path) -> str:
    with open(folder / "modeling_gpt_scratch.py", "a") as file:
        file.write(evil(trace))
    return "modeling_gpt_scratch.py"


def alter_configuration(folder: Path, trace: Path) -> str:
    with open(folder / "configuration_gpt_scratch.py", "a") as file:
        file.write(evil(trace))
    return "configuration_gpt_scratch.py"


def tokenizer_code(folder: Path, trace: Path) -> str:
    code = "from transformers import PreTrainedTokenizerFast\nclass Mine(PreTrainedTokenizerFast): pass\n"
    (folder / "mine.py").write_text(code + evil(trace))
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "mine.Mine"]}, tokenizer_class="Mine")
    return "mine.py"


def custom_generate(folder: Path, trace: Path) -> str:
    (folder / "custom_generate").mkdir()
    code = "def generate(model, **kwargs): pass\n"
    (folder / "custom_generate" / "generate.py").write_text(code + evil(trace))
    return "custom_generate/generate.py"


def code_elsewhere(folder: Path, trace: Path) -> str:
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    edit(folder / "config.json", auto_map=auto_map | {"AutoModel": "someone/else--modeling.Model"})
    return "someone/else--modeling.Model"


def code_by_path(folder: Path, trace: Path) -> str:
    (trace.parent / "outside.py").write_text(evil(trace))
    reference = f"{trace.parent / 'outside'}.Model"
    edit(folder / "config.json", auto_map={"AutoConfig": reference})
    return reference


EVIL = [alter_modeling, alter_configuration, tokenizer_code, custom_generate, code_elsewhere, code_by_path]
TRUSTED = [alter_modeling, alter_configuration, tokenizer_code, custom_generate]


@pytest.mark.parametrize("spoil", EVIL)
@pytest.mark.parametrize(
    "command",
    [["check"], ["push", "you/x", "--dry-run"], ["app", "chat", "--export-space", "out"]],
    ids=["check", "push", "space"],
)
def test_code_of_others_is_refused_by_its_name_and_not_run(folder, trace, command, spoil, monkeypatch, capsys):
    monkeypatch.chdir(trace.parent)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a1" * 17)
    name = spoil(folder, trace)
    words = 2 if command[0] == "app" else 1
    assert main([*command[:words], str(folder), *command[words:]]) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("code ")]
    assert "failed" in line and name in line
    assert not trace.exists()
    assert not (trace.parent / "out").exists()


@pytest.mark.parametrize("spoil", TRUSTED)
def test_it_runs_when_the_user_says_so(folder, trace, spoil, capsys):
    name = spoil(folder, trace)
    main(["check", str(folder), "--trust-remote-code"])
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("code ")]
    assert f"trusted by you: {name} (SHA-256 " in line
    assert trace.exists()


def test_a_refusal_says_how_to_look(folder, trace):
    alter_modeling(folder, trace)
    with pytest.raises(InputError, match="diff .*modeling_gpt_scratch.py .*--trust-remote-code"):
        require_own_code(folder)


def test_the_code_of_an_adapters_base_is_not_run(tmp_path, trace, sound, monkeypatch, capsys):
    base = shutil.copytree(sound, tmp_path / "base")
    model = get_peft_model(
        GPTScratchForCausalLM.from_pretrained(base),
        LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, init_lora_weights=False),
    )
    model.save_pretrained(tmp_path / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, tmp_path / "adapter")
    alter_modeling(base, trace)
    code_by_path(base, trace)
    adapter = str(tmp_path / "adapter")
    assert main(["check", adapter, "--record"]) == 1
    # The answer comes from the package's own code, which the base's auto_map does not name.
    assert not trace.exists()
    shown = capsys.readouterr()
    assert "code that lies elsewhere" in shown.out + shown.err
    edit(base / "config.json", auto_map=dict(GPTScratchConfig().auto_map))
    main(["check", adapter])
    assert not trace.exists()
    assert "AutoPeftModelForCausalLM  ok" in capsys.readouterr().out
    main(["push", adapter, "you/x", "--dry-run"])
    assert not trace.exists()


def test_a_conversion_runs_nothing_of_the_folder_it_is_started_in(tmp_path, trace, sound, monkeypatch):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=16, n_embd=8, n_layer=1, n_head=2)).save_pretrained(
        tmp_path / "stock"
    )
    for name in ("torch.py", "json.py", "transformers.py", "safetensors.py"):
        (tmp_path / name).write_text(evil(trace))
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "stock", "ours", "--tokenizer", "none"]) == 0
    assert main(["check", str(sound)]) == 0
    assert not trace.exists()


def test_the_clean_process_is_clean(folder, trace, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a1" * 17)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    code = f"import os, json\njson.dump([os.listdir(), dict(os.environ)], open({str(trace)!r}, 'w'))\n"
    with open(folder / "configuration_gpt_scratch.py", "a") as file:
        file.write(code)
    run_jobs(folder, [{"auto_class": "AutoConfig"}], trust_remote_code=True)
    listed, environment = json.loads(trace.read_text())
    assert listed == []
    assert not {"HF_TOKEN", "OPENAI_API_KEY"} & environment.keys()
    assert environment["HOME"] != os.environ["HOME"] and "token" not in " ".join(environment).lower()
