"""
Nobody's code runs unasked: what a folder holds or names is refused, by its name, unless the user trusts it; and what
lies in the folder where a command is started is not imported.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM, load
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.model_folder import clean_process
from hf_gpt_scratch.model_folder.clean_process import run_jobs
from hf_gpt_scratch.model_folder.code import named_code, require_own_code
from hf_gpt_scratch.model_folder.contents import CODE_FILES, ModelFolder
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


def kernel_beside_another(folder: Path, trace: Path) -> str:
    """transformers takes the second."""
    edit(folder / "config.json", attn_implementation="sdpa", _attn_implementation="someone/kernel")
    return "attention someone/kernel"


def kernel_of_a_part(folder: Path, trace: Path) -> str:
    edit(folder / "config.json", text_config={"attn_implementation": {"": "sdpa", "layers": "paged|someone/kernel"}})
    return "attention paged|someone/kernel"


def kernel_under_any_name(folder: Path, trace: Path) -> str:
    edit(folder / "config.json", attribute_map={"width": "_attn_implementation"}, width="someone/kernel")
    return "attribute_map"


def downloaded_quantization(folder: Path, trace: Path) -> str:
    """Whose code transformers downloads."""
    edit(folder / "config.json", quantization_config={"quant_method": "eetq"})
    return "quantization eetq"


EVIL = [alter_modeling, alter_configuration, tokenizer_code, custom_generate, code_elsewhere, code_by_path]
KERNELS = [kernel, kernel_beside_another, kernel_of_a_part, kernel_under_any_name, downloaded_quantization]
EVIL += [another_config, processor_code, *KERNELS]
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


@pytest.mark.parametrize("spoil", KERNELS)
def test_no_kernel_of_the_hub_is_loaded(folder, trace, spoil):
    name = spoil(folder, trace)
    with pytest.raises(
        InputError, match=rf"model asks for code from the Hub \(.*{re.escape(name)}.*, which is never run"
    ):
        load(folder)


def test_no_kernel_is_loaded_out_of_another_file_of_settings(folder, trace):
    another_config(folder, trace)
    edit(folder / "config.4.0.0.json", attn_implementation="someone/kernel")
    with pytest.raises(InputError, match=r"code from the Hub \(attention someone/kernel\)"):
        load(folder)


def test_a_quantization_of_an_installed_package_may_be_named(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert named_code(ModelFolder.read(folder)) == (set(CODE_FILES), set())


def test_links_among_code_are_neither_followed_nor_copied(folder, trace):
    """A link to a large folder, or to the root, would copy all of it."""
    large = trace.parent / "large"
    large.mkdir()
    (large / "linked.py").write_text(evil(trace))
    custom_generate(folder, trace)
    (folder / "custom_generate" / "notes.txt").write_text("")
    (folder / "custom_generate" / "folder").symlink_to(large)
    (folder / "custom_generate" / "file.py").symlink_to(large / "linked.py")
    copied = {*CODE_FILES, "custom_generate/generate.py"}
    assert _staged_files(folder) == copied
    shutil.rmtree(folder / "custom_generate")
    (folder / "custom_generate").symlink_to(large)
    assert _staged_files(folder) == set(CODE_FILES)


def _staged_files(folder: Path) -> set[str]:
    """Code and what is in folders, where the folder's code is trusted."""
    with clean_process._staged(folder, True, None) as staged:
        paths = {path.relative_to(staged) for path in staged.rglob("*") if path.is_file()}
        return {path.as_posix() for path in paths if path.suffix == ".py" or len(path.parts) > 1}


def test_a_refusal_says_how_to_look(folder, trace):
    alter_modeling(folder, trace)
    with pytest.raises(InputError, match="diff .*modeling_gpt_scratch.py .*--trust-remote-code"):
        require_own_code(ModelFolder.read(folder))


def test_a_check_shows_how_the_code_differs(folder, trace, capsys):
    """What was added and nothing of the rest, without control sequences, and not more than some lines of it."""
    alter_modeling(folder, trace)
    tokenizer_code(folder, trace)
    with open(folder / "modeling_gpt_scratch.py", "a") as file:
        file.write("# \x1b]52;c;eA==\x07\x1b[2J\u202eclear\n" + "x = 1\n" * 500 + "#" * 10_000)
    for words in ([], ["--trust-remote-code"]):
        main(["check", str(folder), *words])
        shown = capsys.readouterr().out.partition("\n\n")[2].splitlines()
        assert "+++ modeling_gpt_scratch.py" in shown and f"+{evil(trace)}".rstrip() in shown
        assert "+# clear" in shown and "+class Mine(PreTrainedTokenizerFast): pass" in shown
        assert "+x = 1" in shown and "-class GPTScratchModel(GPTScratchPreTrainedModel):" not in shown
        assert len(shown) < 60 and max(map(len, shown)) < 400
        assert any(line.startswith("... (more: diff ") for line in shown)


def test_there_is_nothing_to_show_of_the_packages_own_code(folder, capsys):
    assert main(["check", str(folder)]) == 0
    assert "\n\n" not in capsys.readouterr().out


@pytest.fixture
def adapter(sound, tmp_path) -> Path:
    """Of the model in the folder `base` beside it."""
    base = shutil.copytree(sound, tmp_path / "base")
    model = get_peft_model(
        GPTScratchForCausalLM.from_pretrained(base),
        LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, init_lora_weights=False),
    )
    model.save_pretrained(tmp_path / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapters_own_code_runs_when_the_user_says_so_and_its_bases_never(adapter, trace, capsys):
    base_trace = trace.with_name("base-ran")
    tokenizer_code(adapter, trace)
    alter_modeling(adapter.with_name("base"), base_trace)
    main(["check", str(adapter)])
    assert not trace.exists()
    capsys.readouterr()
    main(["check", str(adapter), "--trust-remote-code"])
    table = capsys.readouterr().out
    assert "trusted by you: mine.py (SHA-256 " in table
    assert "AutoPeftModelForCausalLM  ok" in table
    assert trace.exists() and not base_trace.exists()


@pytest.mark.parametrize("command", [["check", "adapter"], ["generate", "adapter", "--prompt", "a"]])
def test_an_adapter_imports_no_module(adapter, trace, command, monkeypatch, capsys):
    """PEFT imports what `megatron_core` names, where it begins with "megatron."."""
    monkeypatch.chdir(adapter.parent)
    monkeypatch.syspath_prepend(adapter)
    (adapter / "megatron").mkdir()
    (adapter / "megatron" / "__init__.py").write_text("")
    (adapter / "megatron" / "core.py").write_text(evil(trace))
    edit(adapter / "adapter_config.json", megatron_config={"a": 1}, megatron_core="megatron.core")
    assert main(command) == 1
    assert "megatron_config" in "".join(capsys.readouterr())
    assert not trace.exists()


def test_the_code_of_an_adapters_base_is_not_run(adapter, trace, capsys):
    base, adapter = adapter.with_name("base"), str(adapter)
    alter_modeling(base, trace)
    code_by_path(base, trace)
    assert main(["check", adapter, "--record"]) == 1
    # The answer comes from the package's own code, which the base's auto_map does not name.
    assert not trace.exists()
    found = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert found["weights"].split()[1] == "ok"
    assert found["loads"].split()[1] == "failed" and "code that is not in the folder" in found["loads"]
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


def test_a_clean_process_ends_with_the_command_that_started_it(folder, trace, tmp_path, monkeypatch):
    """It was killed, and the next one has removed its folder, which the libraries would make again and leave."""
    code = f"""
import os, shutil, time
scratch = os.environ["HOME"]
shutil.rmtree(scratch)
os.makedirs(os.path.join(scratch, "huggingface"))
time.sleep(20)
open({str(trace)!r}, "w").write(scratch)
"""
    with open(folder / "configuration_gpt_scratch.py", "a") as file:
        file.write(code)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with pytest.raises(InputError, match="The process that was to load .* failed"):
        run_jobs(folder, [{"auto_class": "AutoConfig"}], trust_remote_code=True)
    assert not trace.exists() and not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("spoil", KERNELS)
@pytest.mark.parametrize("target", ["hf-gpt2", "gguf", "onnx"])
def test_an_export_loads_no_kernel(folder, trace, spoil, target, monkeypatch, capsys):
    """Not even to find the shapes of a model's tensors, for which it is built without memory."""
    from transformers.integrations import hub_kernels

    monkeypatch.setattr(hub_kernels, "load_and_register_attn_kernel", lambda *_, **__: trace.touch())
    name = spoil(folder, trace)
    assert main(["export", str(folder), str(trace.parent / "out"), "--to", target]) == 1
    assert name in capsys.readouterr().err
    assert not trace.exists() and not (trace.parent / "out").exists()
