"""LoRA adapters of stock GPT-2 are merged as PEFT merges them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import assert_refused, make_sample, set_config, stock_gpt2

IDS = torch.randint(100, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def adapter(tmp_path):
    """Saves an adapter by PEFT, with random weights, and returns its folder."""
    peft = pytest.importorskip("peft", reason="pip install 'hf-gpt-scratch[lora]'")

    def save(dtype=torch.float32, tie=True, **settings) -> Path:
        stock_gpt2(tie_word_embeddings=tie).to(dtype).save_pretrained(tmp_path / "base")
        base = GPT2LMHeadModel.from_pretrained(tmp_path / "base", dtype=dtype)
        wanted = {"target_modules": ["c_attn"], "fan_in_fan_out": True, **settings}
        model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, **wanted))
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(std=0.3, generator=generator)
        model.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    return save


def set_adapter(folder: Path, **settings) -> None:
    """Changes settings in adapter_config.json."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def merged_by_peft(folder: Path, dtype=torch.float32) -> GPT2LMHeadModel:
    from peft import PeftModel

    base = GPT2LMHeadModel.from_pretrained(folder.parent / "base", dtype=dtype)
    return PeftModel.from_pretrained(base, folder).merge_and_unload().eval()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": ["c_attn", "c_proj", "c_fc"]},
        {"use_rslora": True},
        {"rank_pattern": {"h.0.attn.c_attn": 2}},
        {"layers_to_transform": [1]},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.1, "exclude_modules": ["wte"]},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False, "revision": "main", "ensure_weight_tying": True},
        {"dtype": torch.float16},
        {"dtype": torch.bfloat16},
        {"tie": False, "target_modules": ["c_attn", "lm_head"]},
    ],
    ids=str,
)
def test_adapter_is_merged_as_peft_merges_it(adapter, tmp_path, settings):
    dtype = settings.get("dtype", torch.float32)
    folder = adapter(**settings)
    done = convert(folder, tmp_path / "out", tokenizer="none", prove=True)
    assert done.format == "PEFT adapter of stock GPT-2"
    assert done.max_logit_difference < 1e-4
    export(done.folder, tmp_path / "stock")
    expected = merged_by_peft(folder, dtype)
    back = GPT2LMHeadModel.from_pretrained(tmp_path / "stock", dtype=dtype).state_dict()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(back[name], tensor), name
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(done.folder, dtype=torch.float32).eval()(IDS).logits
        torch.testing.assert_close(found, expected.float()(IDS).logits, atol=1e-4, rtol=0)


def test_its_files_are_recorded(tmp_path):
    source = make_sample("peft-adapter", tmp_path / "in").source
    done = convert(source, tmp_path / "out", tokenizer="none", prove=True)
    record = json.loads((done.folder / "conversion.json").read_text())
    assert set(record["sha256"]) == {"model.safetensors", "adapter_model.safetensors"}


UNSUPPORTED = {
    "DoRA": ({"use_dora": True}, "uses use_dora"),
    "trained biases": ({"bias": "lora_only"}, "uses bias"),
    "whole layers": ({"modules_to_save": ["lm_head"]}, "uses modules_to_save"),
    "scales of its own": ({"alpha_pattern": {"c_attn": 3}}, "uses alpha_pattern"),
    "a base of its own": ({"init_lora_weights": "pissa_niter_4"}, "uses init_lora_weights=pissa"),
    "another one": ({"init_lora_weights": "eva"}, "uses init_lora_weights=eva"),
    "one of a later version": ({"init_lora_weights": {"a": 1}}, "uses init_lora_weights="),
    "only after some tokens": ({"alora_invocation_tokens": [5]}, "uses alora_invocation_tokens"),
    "a setting of a later version": ({"use_new_lora": True}, "uses use_new_lora"),
    "a base of another revision": ({"revision": "v2"}, "uses revision=v2"),
    "prefix tuning": ({"peft_type": "PREFIX_TUNING"}, "is of the type PREFIX_TUNING"),
    "no type": ({"peft_type": None}, "is of the type None"),
    "alpha that is no number": ({"lora_alpha": "two"}, "lora_alpha in .* must be a number"),
    "alpha that no float can be": ({"lora_alpha": 10**400}, "lora_alpha in .* must be a number"),
    "no base": ({"base_model_name_or_path": None}, "does not name the model"),
    "a base that is not there": ({"base_model_name_or_path": "./nowhere"}, "nowhere"),
}


@pytest.mark.parametrize("settings, complaint", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_not_plain_lora_is_refused(tmp_path, settings, complaint):
    source = make_sample("peft-adapter", tmp_path / "in").source
    set_adapter(source, **settings)
    assert_refused(source, complaint)


PREFIX = "base_model.model.transformer."
KEYS = {
    "of the token embeddings": ({PREFIX + "wte.lora_embedding_A": (4, 260)}, "unknown .*lora_embedding_A"),
    "of another layer": ({PREFIX + "h.9.attn.c_attn.lora_A.weight": (3, 8)}, "unknown .*h.9"),
    "one of two": ({PREFIX + "h.0.mlp.c_fc.lora_A.weight": (3, 8)}, "missing lora_B of transformer.h.0.mlp.c_fc"),
    "of a LayerNorm": ({PREFIX + "h.0.ln_1.lora_A.weight": (3, 8)}, "unknown .*ln_1"),
    "of a tied head": ({"base_model.model.lm_head.lora_A.weight": (3, 8)}, "unknown .*lm_head"),
    "of another rank": (
        {PREFIX + "h.0.attn.c_attn.lora_A.weight": (2, 8)},
        r"has shape \[24, 3\] instead of \[24, 2\]",
    ),
    "of no rank": ({PREFIX + "h.0.attn.c_attn.lora_A.weight": (0, 8)}, "has shape"),
    "magnitudes": ({PREFIX + "h.0.attn.c_attn.lora_magnitude_vector": (24,)}, "unknown .*magnitude"),
}


@pytest.mark.parametrize("shapes, complaint", KEYS.values(), ids=KEYS)
def test_keys_that_do_not_fit_are_named(tmp_path, shapes, complaint):
    source = make_sample("peft-adapter", tmp_path / "in").source
    file = source / "adapter_model.safetensors"
    save_file({**load_file(file), **{name: torch.zeros(shape) for name, shape in shapes.items()}}, file)
    assert_refused(source, complaint)


def test_adapter_of_a_model_of_this_package_needs_no_conversion(tmp_path, tiny_config):
    from hf_gpt_scratch import GPTScratchForCausalLM

    source = make_sample("peft-adapter", tmp_path / "in").source
    GPTScratchForCausalLM(tiny_config).save_pretrained(tmp_path / "ours")
    set_adapter(source, base_model_name_or_path=str(tmp_path / "ours"))
    with pytest.raises(InputError, match="already a model of this package"):
        convert(source, tmp_path / "out", tokenizer="none")


def test_settings_of_the_base_are_kept(tmp_path):
    source = make_sample("peft-adapter", tmp_path / "in").source
    set_adapter(source, base_model_name_or_path=str(source / "base"))
    set_config(source / "base", scale_attn_by_inverse_layer_idx=True)
    convert(source, tmp_path / "out", tokenizer="none", prove=True)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.scale_attn_by_inverse_layer_idx


def test_the_base_writes_as_it_did_with_the_adapters_tokenizer(tmp_path):
    source = make_sample("peft-adapter", tmp_path / "in").source
    set_adapter(source, base_model_name_or_path=str(source / "base"))
    (source / "base" / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 7], "max_length": 77}))
    tokenizer = train_tokenizer(["a few words"] * 5, 260)
    tokenizer.save_pretrained(source)
    done = convert(source, tmp_path / "out")
    written = json.loads((done.folder / "generation_config.json").read_text())
    assert written["max_length"] == 77 and {1, 7} <= set(written["eos_token_id"])
    assert AutoTokenizer.from_pretrained(done.folder).get_vocab() == tokenizer.get_vocab()
