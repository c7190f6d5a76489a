"""A model's folder as one object: what it says of its settings and files, and how often they are read."""

import builtins
import io
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.utils import filter_repo_objects

from hf_gpt_scratch import GPTScratchForSequenceClassification, TextClassifier
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.hub.loading_check import check_loading
from hf_gpt_scratch.model_folder import contents
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.training.instruct import check_base
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model

PACKAGE = Path(contents.__file__).parents[1]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("sound"), chat="{{ messages }}")


def write(folder: Path, name: str, **settings) -> None:
    (folder / name).write_text(json.dumps(settings))


def test_a_model_is_described(sound):
    model = ModelFolder.resolve(sound)
    assert (model.architecture, model.auto_class) == ("GPTScratchForCausalLM", "AutoModelForCausalLM")
    assert not model.is_adapter and model.is_native and model.config.n_positions == 64
    assert model.weight_files == {"model.safetensors"}
    assert model.code_files == set(contents.CODE_FILES)
    assert {"chat_template.jinja", "tokenizer.json", "config.json"} <= {path.name for path in model.files()}
    assert ModelFolder.resolve(model) is model and Path(model) == sound


def test_an_adapter_is_described(tmp_path):
    write(tmp_path, "adapter_config.json", base_model_name_or_path="user/base", task_type="SEQ_CLS")
    adapter = ModelFolder.resolve(tmp_path)
    assert adapter.is_adapter and adapter.base == "user/base" and not adapter.is_native
    assert adapter.auto_class == "AutoPeftModelForSequenceClassification"
    assert adapter.weight_files == {"adapter_model.safetensors"}
    with pytest.raises(InputError, match="has no config.json"):
        adapter.require_native()
    write(tmp_path, "config.json", model_type="gpt_scratch")
    assert not ModelFolder.resolve(tmp_path).is_adapter


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "", 3])
def test_an_index_names_files_of_the_folder(tmp_path, name):
    write(tmp_path, "config.json", model_type="gpt_scratch")
    write(tmp_path, "model.safetensors.index.json", weight_map={"a": name})
    with pytest.raises(InputError, match="index.json is damaged"):
        _ = ModelFolder.resolve(tmp_path).weight_files


def test_the_files_of_a_model_are_downloaded_and_none_of_its_code(monkeypatch, tmp_path):
    names = ["config.json", "model.safetensors", "chat_template.jinja", "modeling.py", "pytorch_model.bin", "notes.md"]
    monkeypatch.setattr(contents.constants, "HF_HUB_OFFLINE", False)
    repository = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(contents.HfApi, "model_info", lambda self, name, timeout: repository)
    asked = []

    def snapshot_download(name, allow_patterns):
        asked[:] = [one for one in names if any(Path(one).match(pattern) for pattern in allow_patterns)]
        return tmp_path

    monkeypatch.setattr(contents, "snapshot_download", snapshot_download)
    assert contents.resolve_source("user/model") == tmp_path
    assert asked == ["config.json", "model.safetensors", "chat_template.jinja"]
    assert contents.resolve_source("user/model", weights=False) == tmp_path
    assert asked == ["config.json", "chat_template.jinja"]


ADAPTERS = {
    "pickled": {"adapter_model.bin": True, "other.gguf": False, "base/model.safetensors": False},
    "both": {"adapter_model.safetensors": True, "adapter_model.bin": False},
    "of several files": {"adapter_model.safetensors": True, "a.gguf": False, "b.gguf": False},
    "beside the merged model": {"adapter_model.bin": True, "model.safetensors": False},
}


@pytest.mark.parametrize("wanted", ADAPTERS.values(), ids=ADAPTERS)
def test_the_files_of_an_adapter_are_downloaded(monkeypatch, tmp_path, wanted):
    wanted = {"adapter_config.json": True, "tokenizer.json": True, **wanted}
    monkeypatch.setattr(contents.constants, "HF_HUB_OFFLINE", False)
    repository = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in wanted])
    monkeypatch.setattr(contents.HfApi, "model_info", lambda self, name, timeout: repository)
    asked = []

    def snapshot_download(name, allow_patterns):
        asked[:] = filter_repo_objects(wanted, allow_patterns=allow_patterns)
        return tmp_path

    monkeypatch.setattr(contents, "snapshot_download", snapshot_download)
    contents.resolve_source("user/adapter")
    assert asked == [name for name, is_wanted in wanted.items() if is_wanted]


def test_the_base_of_an_adapter_is_resolved_once(sound, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(contents.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(contents, "snapshot_download", lambda name, **_: asked.append(name) or sound)
    write(tmp_path, "adapter_config.json", base_model_name_or_path="user/base", task_type="CAUSAL_LM")
    adapter = ModelFolder.read(tmp_path)
    assert adapter.base_folder is adapter.base_folder and adapter.base_folder.path == sound
    found = {one.name: one.status for one in check_loading(adapter)}
    assert found["AutoPeftModelForCausalLM"] == "failed"  # it has no weights
    assert asked == ["user/base"]


def test_the_code_files_are_named_in_one_place():
    quoted = [f'"{name}"' for name in contents.CODE_FILES]
    naming = [path.name for path in PACKAGE.rglob("*.py") if any(name in path.read_text() for name in quoted)]
    assert naming == ["contents.py"]


@pytest.fixture
def readers(monkeypatch) -> dict[str, Counter]:
    """By the path of a file that was opened, how often by each of the package's files."""
    readers = defaultdict(Counter)

    def counting(opened):
        def open_(file, *args, **kwargs):
            frame = sys._getframe(1)
            while frame and PACKAGE not in Path(frame.f_code.co_filename).parents:
                frame = frame.f_back
            readers[str(file)][Path(frame.f_code.co_filename).name if frame else None] += 1
            return opened(file, *args, **kwargs)

        return open_

    monkeypatch.setattr(io, "open", counting(io.open))
    monkeypatch.setattr(builtins, "open", counting(builtins.open))
    return readers


def test_a_push_reads_the_settings_once(sound, readers, capsys):
    """
    By our code. The secret scan reads config.json as text, and the clean process gets a copy, whose settings are read
    again as it is the copy that runs. transformers reads it for the tokenizer, once each time that one is loaded.
    """
    assert main(["push", str(sound), "you/model", "--dry-run"]) == 0, capsys.readouterr().out
    assert readers[f"{sound}/config.json"] == {
        "files.py": 1,
        "secrets.py": 1,
        "clean_process.py": 1,
        "tokenizer.py": 2,
    }


def test_so_does_a_classifier(tmp_path, readers):
    folder = save_model(tmp_path / "model", GPTScratchForSequenceClassification)
    readers.clear()
    TextClassifier.from_pretrained(folder)
    assert readers[f"{folder}/config.json"] == {"files.py": 1, "loading.py": 1, "tokenizer.py": 1}


def test_so_does_the_check_of_an_adapters_base(sound, readers):
    check_base(str(sound), load_tokenizer(sound))
    assert readers[f"{sound}/config.json"] == {"files.py": 1, "tokenizer.py": 1}
