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

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, load
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.model_folder import clean_process
from hf_gpt_scratch.model_folder.clean_process import run_jobs
from hf_gpt_scratch.model_folder.code import CODE_FILES, require_own_code
from hf_gpt_scratch.model_folder.contents import ModelFolder
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


def another_config(folder: Path, trace: Path) -> str:
    """transformers takes config.json's place for the newest of these that is not newer than itself."""
    (folder / "mine.py").write_text(evil(trace))
    settings = json.loads((folder / "config.json").read_text())
    other = settings | {"auto_map": {name: f"mine.{name}" for name in settings["auto_map"]}}
    (folder / "config.4.0.0.json").write_text(json.dumps(other))
    edit(folder / "config.json", configuration_files=["config.4.0.0.json"])
    return "configuration_files"


def processor_code(folder: Path, trace: Path) -> str:
    """Named within a part of a processor's settings, for a class that config.json asks to be loaded."""
    (folder / "mine.py").write_text(evil(trace))
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    edit(folder / "config.json", auto_map=auto_map | {"AutoVideoProcessor": "modeling_gpt_scratch.GPTScratchModel"})
    settings = {"video_processor": {"auto_map": {"AutoVideoProcessor": "mine.Mine"}}}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return "mine.py"


def kernel(folder: Path, trace: Path) -> str:
    """Code of the Hub that transformers downloads for a model's attention."""
    edit(folder / "config.json", attn_implementation="someone/kernel")
    return "attention someone/kernel"


EVIL = [alter_modeling, alter_configuration, tokenizer_code, custom_generate, code_elsewhere, code_by_path]
EVIL += [another_config, processor_code, kernel]
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


def test_it_runs_when_the_user_says_so_and_with_it_what_lies_beside(folder, trace, capsys):
    traces = {spoil: trace.with_name(spoil.__name__) for spoil in TRUSTED}
    names = [spoil(folder, traces[spoil]) for spoil in TRUSTED]
    (folder / "beside.py").write_text("")
    main(["check", str(folder), "--trust-remote-code"])
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("code ")]
    assert "trusted by you: " in line
    assert all(f"{name} (SHA-256 " in line for name in [*names, "beside.py"])
    assert [spoil for spoil in TRUSTED if not traces[spoil].exists()] == []


def test_what_no_file_of_the_model_names_is_not_even_there(folder, trace):
    """Whichever way transformers came to look for it."""
    (folder / "mine.py").write_text(evil(trace))
    with clean_process._staged(folder, False, None) as staged:
        assert {path.name for path in staged.rglob("*.py")} == set(CODE_FILES)


def test_only_the_classes_of_a_model_load_it_elsewhere(folder):
    with pytest.raises(InputError, match="would be loaded by AutoProcessor"):
        run_jobs(folder, [{"auto_class": "AutoProcessor"}])


def test_no_kernel_of_the_hub_is_loaded(folder, trace):
    kernel(folder, trace)
    with pytest.raises(InputError, match="someone/kernel of the Hub, which is never run"):
        load(folder)


def test_a_refusal_says_how_to_look(folder, trace):
    alter_modeling(folder, trace)
    with pytest.raises(InputError, match="diff .*modeling_gpt_scratch.py .*--trust-remote-code"):
        require_own_code(ModelFolder.read(folder))


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
