"""Models that look like a GPT-2 and are none: each is named, with what to do."""

import json

import pytest
import torch
from safetensors.torch import save_file

from hf_gpt_scratch.conversion.foreign_models import TABLE, refuse_foreign
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import as_llms_from_scratch, as_nanogpt, assert_refused, set_config, stock_gpt2

BOOK = as_llms_from_scratch(stock_gpt2())
GPT2 = as_nanogpt(stock_gpt2())["model"]
Q, K = "trf_blocks.0.att.W_query.weight", "trf_blocks.0.att.W_key.weight"


def with_keys(weights: dict, *names: str, shape=(2, 2)) -> dict:
    return {**weights, **dict.fromkeys(names, torch.ones(shape))}


# What a file holds, what it is called, and a word of the advice; the names are those of each model's own code.
FILES = {
    "bitsandbytes": (with_keys(GPT2, "transformer.h.0.attn.c_attn.weight.absmax"), "quantised model", "dequantize"),
    "bitsandbytes, 8 bits": (with_keys(GPT2, "transformer.h.0.mlp.c_fc.SCB"), "quantised model", "dequantize"),
    "GPTQ": (with_keys({}, "transformer.h.0.attn.c_attn.qweight"), "quantised model", "dequantize"),
    "double heads": (
        with_keys(GPT2, "multiple_choice_head.summary.weight"),
        "GPT2DoubleHeadsModel",
        "GPT2LMHeadModel",
    ),
    "value head": (with_keys(GPT2, "v_head.summary.weight"), "TRL's value head", "pretrained_model"),
    "cross-attention": (
        with_keys(GPT2, "transformer.h.0.crossattention.c_attn.weight"),
        "cross-attention",
        "EncoderDecoderModel",
    ),
    "the book's experts": (with_keys(BOOK, "trf_blocks.0.ff.fc1.0.weight"), "mixture of experts", "trained it"),
    "Mixtral": (with_keys({}, "model.layers.0.block_sparse_moe.experts.0.w1.weight"), "mixture of experts", "trained"),
    "the book's latent attention": (with_keys(BOOK, "trf_blocks.0.att.W_DKV.weight"), "MLA", "trained it"),
    "DeepSeek": (with_keys({}, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"), "MLA", "trained it"),
    "multi-query": (
        {**GPT2, "transformer.h.0.attn.c_attn.weight": torch.ones(32 + 2 * 8, 32)},
        "GPTBigCode, a GPT-2 with multi-query attention",
        "convert_hf_to_gguf.py",
    ),
    "the book's groups": ({**BOOK, K: torch.ones(16, 32)}, "grouped-query attention", "trained it"),
    "the book's Llama": (with_keys(BOOK, "trf_blocks.0.ff.fc1.weight"), "later chapters", "convert_hf_to_gguf.py"),
    "Llama": (with_keys({}, "model.layers.0.mlp.gate_proj.weight"), "Llama's shape", "convert_hf_to_gguf.py"),
    "Llama by Meta": (with_keys({}, "layers.0.feed_forward.w1.weight"), "Llama's shape", "convert_hf_to_gguf.py"),
    "nanochat": (
        with_keys(GPT2, "transformer.h.0.attn.c_q.weight", "value_embeds.1.weight"),
        "nanochat's model",
        "NanoChatForCausalLM",
    ),
    "modded-nanogpt": (with_keys({}, "blocks.0.attn.qkv_w", "skip_weights"), "modded-nanogpt", "trained it"),
}


@pytest.mark.parametrize("weights, what, advice", FILES.values(), ids=FILES)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_file_is_refused_by_name(tmp_path, weights, what, advice, suffix):
    file = tmp_path / f"weights.{suffix}"
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    torch.save({"model": weights}, file) if suffix == "pt" else save_file(weights, file)
    assert_refused(file, f"cannot be converted: it is .*{what}.*; .*{advice}")


SETTINGS = {
    "quantised": ({"quantization_config": {"quant_method": "gptq"}}, "quantised model"),
    "double heads": ({"architectures": ["GPT2DoubleHeadsModel"]}, "GPT2DoubleHeadsModel"),
    "cross-attention": ({"add_cross_attention": True}, "cross-attention"),
    "GPTBigCode": ({"model_type": "gpt_bigcode"}, "GPTBigCode"),
    "nanochat": ({"model_type": "nanochat"}, "nanochat's model"),
}


@pytest.mark.parametrize("settings, what", SETTINGS.values(), ids=SETTINGS)
def test_folder_is_refused_by_its_configuration(tmp_path, settings, what):
    stock_gpt2().save_pretrained(tmp_path / "stock")
    set_config(tmp_path / "stock", **settings)
    assert_refused(tmp_path / "stock", f"it is .*{what}")


def test_a_model_folder_is_refused_by_its_weights_before_its_type(tmp_path):
    (tmp_path / "llama").mkdir()
    save_file({"model.layers.0.mlp.gate_proj.weight": torch.zeros(2, 2)}, tmp_path / "llama" / "model.safetensors")
    (tmp_path / "llama" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert_refused(tmp_path / "llama", "it is a model of Llama's shape")


ARGUMENTS = {
    "shared keys": ({"n_kv_producing_layers": 1}, "shares keys between layers"),
    "groups": ({"cfg": {"n_kv_groups": 2}}, "grouped-query"),
    "experts": ({"num_experts": 4}, "mixture of experts"),
    "a latent": ({"latent_dim": 4}, "MLA"),
}


@pytest.mark.parametrize("settings, what", ARGUMENTS.values(), ids=ARGUMENTS)
def test_repository_of_the_mixin_is_refused_by_its_arguments(tmp_path, settings, what):
    """Some of these have the names and the shapes of the plain model."""
    (tmp_path / "repository").mkdir()
    save_file(BOOK, tmp_path / "repository" / "model.safetensors")
    (tmp_path / "repository" / "config.json").write_text(json.dumps({"n_heads": 4, **settings}))
    assert_refused(tmp_path / "repository", f"it is .*{what}")


def test_every_row_of_the_table_has_its_test():
    said = [what for _, what, _ in FILES.values()] + [what for _, what in (*SETTINGS.values(), *ARGUMENTS.values())]
    assert all(any(what in row.what for what in said) for row in TABLE)


@pytest.mark.parametrize("weights", [BOOK, GPT2, stock_gpt2().state_dict()], ids=["book", "nanoGPT", "stock"])
def test_plain_models_are_not_refused(tmp_path, weights):
    refuse_foreign(tmp_path, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    with pytest.raises(InputError):
        refuse_foreign(tmp_path, {"v_head.weight": (1, 2)})
