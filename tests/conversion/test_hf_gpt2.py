import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedModel

import hf_gpt_scratch
from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchModel
from hf_gpt_scratch.conversion import convert, export
from hf_gpt_scratch.conversion.hf_gpt2 import ARCHITECTURES
from hf_gpt_scratch.errors import InputError
from hf_gpt_scratch.tokenizer import train_tokenizer

INPUT_IDS = torch.randint(3, 100, (2, 16), generator=torch.Generator().manual_seed(0))


def random_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Every weight drawn at random, as fresh biases and LayerNorms are all alike and would hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return model.eval()


def stock(folder: Path, architecture: str = "GPT2LMHeadModel", **settings) -> PreTrainedModel:
    """A tiny stock GPT-2 with random weights, saved in `folder`."""
    shape = {"vocab_size": 100, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    model = random_weights(getattr(transformers, architecture)(GPT2Config(**{**shape, **special, **settings})))
    model.save_pretrained(folder)
    return model


@pytest.fixture
def source(tmp_path) -> Path:
    stock(tmp_path / "stock")
    return tmp_path / "stock"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for path in folder.glob("*.safetensors") for key, tensor in load_file(path).items()}


def rewrite(folder: Path, change: Callable[[dict], dict]) -> None:
    """Saves what `change` makes of the folder's tensors."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def set_config(folder: Path, **settings) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def assert_same_tensors(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor), key


def output(model: PreTrainedModel) -> torch.Tensor:
    """The logits, or a base model's hidden states."""
    with torch.no_grad():
        return model(INPUT_IDS)[0]


def assert_refused(src: Path, complaint: str, way: Callable = convert) -> None:
    before = sorted(src.parent.rglob("*"))
    with pytest.raises(InputError, match=complaint) as refusal:
        way(str(src), src.parent / "out")
    assert "\n" not in str(refusal.value)
    assert sorted(src.parent.rglob("*")) == before  # nothing was written, under whatever name


@pytest.mark.parametrize("architecture, ours", ARCHITECTURES.items())
@pytest.mark.parametrize("settings", [{}, {"n_inner": 48, "activation_function": "relu", "layer_norm_epsilon": 1e-3}])
def test_every_head_has_the_same_logits_and_comes_back_bit_for_bit(tmp_path, architecture, ours, settings):
    theirs = stock(tmp_path / "stock", architecture, num_labels=3, **settings)
    convert(str(tmp_path / "stock"), tmp_path / "ours")
    converted, info = getattr(hf_gpt_scratch, ours).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(output(converted), output(theirs), atol=1e-5, rtol=0)

    export(str(tmp_path / "ours"), tmp_path / "back")
    assert_same_tensors(weights(tmp_path / "back"), weights(tmp_path / "stock"))
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("stock", "back"))
    assert {key: after.get(key) for key in before if key != "classifier_dropout"} == {
        key: value for key, value in before.items() if key != "classifier_dropout"
    }
    assert after["n_ctx"] == 64  # for llama.cpp
