"""The check of a folder: a sound one passes, and each check fails for what it is there for."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from hf_gpt_scratch import GPTScratchForSequenceClassification
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.hub import check as checks
from hf_gpt_scratch.hub import loading_check
from hf_gpt_scratch.hub.files import uploadable
from hf_gpt_scratch.hub.findings import CheckFailed
from hf_gpt_scratch.model_folder import clean_process, reference_logits
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "model")


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def statuses(folder: Path) -> dict[str, str]:
    return {finding.name: finding.status for finding in checks.check(folder)}


def test_a_sound_folder_passes_and_the_command_says_so(sound, capsys):
    assert main(["check", str(sound)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" ok ") == 14 and "skipped" not in printed and "failed" not in printed
    assert "AutoModelForTokenClassification" in printed and "they are the same as those recorded" in printed


def test_a_classifier_passes(tmp_path):
    names = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    found = statuses(save_model(tmp_path / "model", GPTScratchForSequenceClassification, **names))
    assert found["label names"] == "ok" and found["logits"] == "ok" and "generation config" not in found
    assert "failed" not in found.values()


@pytest.fixture
def repository(folder, monkeypatch) -> str:
    """The Hub repository user/model, with the files of `folder`."""

    def snapshot_download(name: str, local_dir: Path, **patterns) -> None:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        for one in filter_repo_objects(names, **patterns):
            (local_dir / one).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / one, local_dir / one)

    monkeypatch.setattr(checks, "snapshot_download", snapshot_download)
    return "user/model"


def test_of_a_repository_only_the_files_of_the_model_are_downloaded(folder, repository):
    for name in ("checkpoint-9", "plots"):
        (folder / name).mkdir()
    for name in ("checkpoint-9/model.safetensors", "checkpoint-9/evil.py", "plots/training.png", "metrics.json"):
        (folder / name).touch()
    with checks.copy_of_repository(repository) as copy:
        found = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "modeling_gpt_scratch.py", "plots/training.png"} <= found
    assert not {"metrics.json"} & found and not any("checkpoint" in name for name in found)


def test_the_advice_for_a_repository_is_to_push_and_names_no_copy(folder, repository, monkeypatch, capsys):
    def advice(name: str) -> str:
        found = checks.check_source(repository)
        assert not any(tempfile.gettempdir() in one.detail for one in found)
        [finding] = [one for one in found if one.name == name and one.status != "ok"]
        return finding.detail

    record = folder / "reference_logits.json"
    recorded = json.loads(record.read_text())
    edit(record, weights=dict.fromkeys(recorded["weights"], "0" * 64))
    again = "record them again with `hf-gpt-scratch check FOLDER --record` and `hf-gpt-scratch push FOLDER user/model`"
    assert again in advice("weights as saved")
    record.unlink()
    assert advice("logits") == "none were recorded; `hf-gpt-scratch push FOLDER user/model` records them"
    monkeypatch.setattr(checks, "check_loading", lambda *_: [])
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert advice("tokenizer").endswith("then `hf-gpt-scratch push FOLDER user/model`")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="^user/model is not the folder of a model"):
        checks.check_source(repository)


def test_other_weights_are_noticed_by_their_logits(folder, capsys):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["transformer.wte.weight"] += 0.01 * torch.randn_like(tensors["transformer.wte.weight"])
    save_file(tensors, path, metadata={"format": "pt"})
    assert main(["check", str(folder)]) == 1
    captured = capsys.readouterr()
    assert "2 of 14 checks" in captured.err and "recorded when the model was saved" in captured.out


def test_weights_that_do_not_fit_are_named_and_a_folder_without_a_record_is_told_so(folder):
    (folder / reference_logits.FILE).unlink()
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["transformer.ln_f.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    findings = {finding.name: finding for finding in checks.check(folder)}
    assert findings["AutoModelForCausalLM"].status == "failed"
    assert "transformer.ln_f.weight" in findings["AutoModelForCausalLM"].detail
    assert findings["logits"].status == "skipped" and "--record" in findings["logits"].detail


def test_a_tokenizer_that_loads_otherwise_elsewhere_is_noticed(sound):
    with pytest.raises(CheckFailed, match="encodes .* here"):
        loading_check.tokenizer_loaded(sound, {"ids": [[1, 2]] * len(loading_check.TEXTS)})
    with pytest.raises(CheckFailed, match="no such class"):
        loading_check.tokenizer_loaded(sound, {"error": "no such class"})


def damage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])


def nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.ln_f.bias"][3] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "weights", "safetensors is missing"),
    "damaged weights": (damage, "weights", "cannot be read"),
    "weights that are no numbers": (nan, "weights", "transformer.ln_f.bias .* NaN"),
    "code that is missing": (
        lambda folder: (folder / "configuration_gpt_scratch.py").unlink(),
        "files",
        "configuration_gpt_scratch.py is missing",
    ),
    "code that needs another package": (
        lambda folder: (folder / "modeling_gpt_scratch.py").write_text("import math, peft\nfrom .x import y\n"),
        "files",
        "modeling_gpt_scratch.py imports peft",
    ),
    "code that is none": (
        lambda folder: (folder / "modeling_gpt_scratch.py").write_text("import ("),
        "files",
        "modeling_gpt_scratch.py is not valid Python",
    ),
    "a link": (lambda folder: (folder / "README.md").symlink_to("/etc/hostname"), "files", "README.md"),
    "a token": (
        lambda folder: (folder / "README.md").write_text("login with hf_" + "a1" * 17),
        "secrets and paths",
        "README.md holds a Hugging Face token",
    ),
    "a path": (
        lambda folder: edit(folder / "config.json", _note="/home/someone/model"),
        "secrets and paths",
        "config.json holds the path '/home/someone'",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer", "tokenizer"),
    "a tokenizer of more tokens": (lambda folder: edit(folder / "config.json", vocab_size=200), "tokenizer", "token"),
    "another end token": (
        lambda folder: edit(folder / "config.json", eos_token_id=7),
        "tokenizer",
        "eos_token_id is 0, and that in config.json 7",
    ),
    "a generation config of another model": (
        lambda folder: edit(folder / "generation_config.json", eos_token_id=9),
        "generation config",
        "eos_token_id is 9",
    ),
    "no generation config": (
        lambda folder: (folder / "generation_config.json").unlink(),
        "generation config",
        "cannot be read",
    ),
}


@pytest.mark.parametrize("spoil, name, detail", BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_fails_its_own_check(folder, monkeypatch, spoil, name, detail):
    monkeypatch.setattr(checks, "check_loading", lambda *_: [])  # a process of some seconds, which others test
    spoil(folder)
    [finding] = [one for one in checks.check(folder) if one.status == "failed" and one.name == name]
    assert re.search(detail, finding.detail)


@pytest.mark.parametrize(
    "settings", [{}, {"id2label": {"0": "LABEL_0"}}, {"id2label": {"0": "a"}, "label2id": {"a": 1}}]
)
def test_labels_need_names(settings):
    with pytest.raises(CheckFailed, match="label"):
        checks.check_labels(settings)


def test_what_is_not_part_of_the_model_is_not_uploaded(folder):
    for name in ("metrics.json", "responses.json", "training_args.bin.partial", "predictions.csv"):
        (folder / name).touch()
    for name in ("checkpoint-5", "results"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").touch()
    (folder / "plots").mkdir()
    (folder / "plots" / "training.png").touch()
    assert {path.relative_to(folder).as_posix() for path in uploadable(folder)} == {
        "config.json",
        "configuration_gpt_scratch.py",
        "generation_config.json",
        "model.safetensors",
        "modeling_gpt_scratch.py",
        "pipeline_gpt_scratch.py",
        "plots/training.png",
        "reference_logits.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_a_process_that_dies_is_a_finding_among_the_others(folder, monkeypatch, capsys):
    monkeypatch.setattr(clean_process, "MAIN", folder / "nowhere.py")
    assert main(["check", str(folder)]) == 1
    found = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if line}
    assert found["weights"] == "ok" and found["loads"] == "failed"


def test_what_is_no_model(tmp_path):
    with pytest.raises(InputError, match="is not the folder of a model or an adapter: .* save a model there first"):
        checks.check(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        checks.check(tmp_path)


def test_an_adapter_needs_a_base_that_others_have(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    assert loading_check.check_loading(ModelFolder.read(tmp_path))[0].status == "failed"
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "user/base"}))
    assert loading_check.check_loading(ModelFolder.read(tmp_path))[0].status == "ok"
