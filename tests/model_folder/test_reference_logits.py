"""The logits recorded beside a model, and those of an adapter, which is checked with them."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.hub import check as checks
from hf_gpt_scratch.hub import loading_check
from hf_gpt_scratch.model_folder import reference_logits
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.pretrained import record_reference_logits
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model


def answer(model, ids: list, columns: list) -> torch.Tensor:
    with torch.no_grad():
        logits = model.eval()(torch.tensor(ids)).logits
    return (logits[:, -1] if logits.ndim == 3 else logits)[:, columns]


@pytest.mark.parametrize("model_class", [GPTScratchForCausalLM, GPTScratchForSequenceClassification])
def test_the_record_is_what_the_model_answers(model_class, tmp_path):
    record = reference_logits.read(save_model(tmp_path, model_class))
    is_causal = model_class is GPTScratchForCausalLM
    assert record["auto_class"] == "AutoModelFor" + ("CausalLM" if is_causal else "SequenceClassification")
    assert len(record["columns"]) == len(set(record["columns"])) == (64 if is_causal else 2)
    assert [len(row) for row in record["input_ids"]] == [32, 32]
    found = answer(model_class.from_pretrained(tmp_path), record["input_ids"], record["columns"])
    torch.testing.assert_close(found, torch.tensor(record["logits"]), atol=1e-6, rtol=0)


def test_a_short_model_is_asked_for_less(tiny_config, tmp_path):
    tiny_config.n_positions = 8
    GPTScratchForCausalLM(tiny_config).save_pretrained(tmp_path)
    record_reference_logits(tmp_path)
    record = reference_logits.read(tmp_path)
    assert [len(row) for row in record["input_ids"]] == [8, 8]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"auto_class": "A", "input_ids": [[0]], "columns": [0, 1], "logits": [[1.0]]}']
)
def test_a_damaged_record_is_told(content, tmp_path):
    (tmp_path / reference_logits.FILE).write_text(content)
    with pytest.raises(InputError, match="reference_logits.json is damaged"):
        reference_logits.read(tmp_path)


@pytest.mark.parametrize("found", [[[0.0, float("nan")]], [[0.0]], [[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.1]], None])
def test_other_logits_fail(found):
    assert loading_check.compare_logits(found, [[0.0, 1.0]]).status == "failed"


def test_logits_may_differ_by_rounding():
    assert loading_check.compare_logits([[0.0, 100.001]], [[0.0, 100.0]]).status == "ok"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> Path:
    """A language model `base`, and an `adapter` of it that changes its answers, as Trainer saves one."""
    folder = tmp_path_factory.mktemp("adapters")
    base = GPTScratchForCausalLM.from_pretrained(save_model(folder / "base"))
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    load_tokenizer(folder / "base").save_pretrained(folder / "adapter")
    record_reference_logits(folder / "adapter")
    return folder


def test_an_adapter_loads_and_answers_as_recorded(adapters):
    record = reference_logits.read(adapters / "adapter")
    without = reference_logits.read(adapters / "base")
    assert record["auto_class"] == "AutoPeftModelForCausalLM"
    assert loading_check.compare_logits(record["logits"], without["logits"]).status == "failed"
    found = {finding.name: finding for finding in checks.check(adapters / "adapter")}
    assert found["AutoPeftModelForCausalLM"].status == found["logits"].status == found["weights"].status == "ok"
    assert [name for name, finding in found.items() if finding.status != "ok"] == ["base model"]
    assert "nobody else has" in found["base model"].detail


@pytest.mark.parametrize(
    "changes, name, status, detail",
    [
        ({"base_model_name_or_path": "user/base"}, "loads", "skipped", "user/base is neither"),
        ({"base_model_name_or_path": None}, "base model", "failed", "does not name the model"),
        ({"base_model_name_or_path": "user/base", "task_type": None}, "loads", "failed", "task_type None"),
    ],
)
def test_what_an_adapter_lacks(adapters, tmp_path, changes, name, status, detail):
    folder = shutil.copytree(adapters / "adapter", tmp_path / "adapter")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    [finding] = [one for one in loading_check.check_loading(ModelFolder.read(folder)) if one.name == name]
    assert finding.status == status and detail in finding.detail


def test_an_adapter_without_peft_says_what_to_install(adapters, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    [finding] = [
        one for one in loading_check.check_loading(ModelFolder.read(adapters / "adapter")) if one.name == "loads"
    ]
    assert finding.status == "skipped" and "pip install -c constraints.txt -e '.[lora]'" in finding.detail
