"""Adapters where a package that they need is missing or too old: one sentence, before the long work begins."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.import_utils import is_torchao_available
from transformers import GenerationConfig

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.adapters import require_peft
from hf_gpt_scratch.hub.loading_check import check_loading
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.pretrained import load
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.commands import run_command
from support.distributions import make_distribution
from support.models import save_model

OLD_TORCHAO = (
    r"^peft [\d.]+ does not work with torchao 0\.10\.0, which is too old: pip uninstall -y torchao"
    r" \(or pip install -U torchao\)\.$"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """A language model `base`, and an `adapter` of it."""
    folder = tmp_path_factory.mktemp("folders")
    base = GPTScratchForCausalLM.from_pretrained(save_model(folder / "base"))
    torch.manual_seed(0)
    get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2)).save_pretrained(
        folder / "adapter"
    )
    load_tokenizer(folder / "base").save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder in which Python looks for packages first."""
    monkeypatch.syspath_prepend(tmp_path)
    is_torchao_available.cache_clear()  # PEFT asks once a process
    yield tmp_path
    is_torchao_available.cache_clear()


@pytest.fixture
def old_torchao(site) -> Path:
    make_distribution(site, "torchao", "0.10.0")
    return site


@pytest.fixture
def no_data(monkeypatch):
    """Data must not be asked for: it would be downloaded."""

    def asked(*args):
        raise AssertionError("the data was asked for")

    monkeypatch.setattr("hf_gpt_scratch.training.instruct.load_conversations", asked)


def test_peft_itself_refuses_this_torchao(old_torchao):
    with pytest.raises(ImportError, match="incompatible version of torchao"):
        is_torchao_available()


def test_an_adapter_brings_its_own_generation_settings(folders, tmp_path):
    adapter = shutil.copytree(folders / "adapter", tmp_path / "adapter")
    assert load(adapter)[0].generation_config.max_new_tokens is None
    GenerationConfig(max_new_tokens=7).save_pretrained(adapter)
    assert load(adapter)[0].generation_config.max_new_tokens == 7
    (adapter / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match="generation_config.json"):
        load(adapter)


def test_loading_an_adapter_says_that_torchao_is_too_old(folders, old_torchao):
    with pytest.raises(InputError, match=OLD_TORCHAO):
        load(folders / "adapter")


def test_exporting_with_an_adapter_says_it(folders, old_torchao, tmp_path):
    with pytest.raises(InputError, match=OLD_TORCHAO):
        run_command("export", folders / "base", tmp_path / "out", "--to", "hf-gpt2", "--adapter", folders / "adapter")


def test_the_check_before_a_push_says_it(folders, old_torchao):
    findings = check_loading(ModelFolder.read(folders / "adapter"))
    [found] = [finding for finding in findings if finding.name == "loads"]
    assert found.status == "skipped" and "does not work with torchao 0.10.0" in found.detail


@pytest.mark.parametrize("job, options", [("instruct", ["--lora_r", 4]), ("instruct", []), ("spam", [])])
def test_training_says_it_before_data_is_downloaded(job, options, folders, old_torchao, no_data, tmp_path):
    start = folders / ("base" if options else "adapter")
    words = ["--model_name_or_path", start, "--output_dir", tmp_path / "out", *options]
    with pytest.raises(InputError, match=OLD_TORCHAO):
        run_command("train", job, *words)
    assert not (tmp_path / "out").exists()


def test_the_command_ends_with_the_sentence_alone(folders, old_torchao, tmp_path):
    command = [sys.executable, "-m", "hf_gpt_scratch_cli", "train", "instruct", "--lora_r", "4"]
    command += ["--model_name_or_path", str(folders / "base"), "--output_dir", str(tmp_path / "out")]
    path = os.pathsep.join([str(old_torchao), str(Path(__file__).parents[1])])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and "does not work with torchao 0.10.0" in line and not done.stdout


@pytest.mark.parametrize("versions", [(), ("99.0",)])
def test_no_torchao_and_a_new_one_are_fine(versions, site):
    for version in versions:
        make_distribution(site, "torchao", version)
    require_peft()


def test_an_adapter_without_peft_says_what_to_install(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        InputError, match=r"^An adapter needs the package peft: pip install -c constraints.txt -e '\.\[lora\]'\.$"
    ):
        load(folders / "adapter")


def test_a_peft_that_cannot_be_imported_says_why(site, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "peft"]:
        monkeypatch.delitem(sys.modules, name)
    make_distribution(site, "peft", "99.0", code="raise ImportError('transformers is too old')")
    with pytest.raises(
        InputError, match=r"^peft 99\.0 cannot be imported \(transformers is too old\): pip install -U"
    ):
        require_peft()


@pytest.mark.parametrize(
    "code, message",
    [
        (None, r"^QLoRA needs the package bitsandbytes: pip install -c constraints.txt -e '\.\[qlora\]'\.$"),
        (
            "raise OSError('libcudart.so.13 was not found')",
            r"^bitsandbytes does not work on this machine \(libcudart.*\): use --lora_r 16 without --qlora\.$",
        ),
    ],
)
def test_qlora_says_that_bitsandbytes_is_missing_or_broken(code, message, folders, site, no_data, monkeypatch):
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    if code is None:
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    else:
        make_distribution(site, "bitsandbytes", "99.0", code=code)
    words = ["--model_name_or_path", folders / "base", "--output_dir", site / "out", "--qlora", "true"]
    with pytest.raises(InputError, match=message):
        run_command("train", "instruct", *words)
