"""Stock GPT-2s that scale their attention in another way, such as codeparrot's, are the same models here."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchConfig
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.conversion.gguf import export_gguf
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import stock_gpt2

IDS = torch.randint(3, 100, (2, 16), generator=torch.Generator().manual_seed(0))
SETTINGS = {
    "by layer": {"scale_attn_by_inverse_layer_idx": True},
    "not at all": {"scale_attn_weights": False},
    "by layer alone": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "reordered": {"reorder_and_upcast_attn": True},
    "as codeparrot and stanford-crfm": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_variant_has_the_same_logits_and_comes_back(tmp_path, settings, attention):
    theirs = stock_gpt2(n_layer=3, **settings)
    theirs.save_pretrained(tmp_path / "stock")
    done = convert(tmp_path / "stock", tmp_path / "ours", tokenizer="none", prove=True)
    ours = AutoModelForCausalLM.from_pretrained(done.folder, attn_implementation=attention).eval()
    with torch.no_grad():
        expected = theirs(IDS).logits
        torch.testing.assert_close(ours(IDS).logits, expected, atol=1e-5, rtol=0)
        past = ours(IDS[:, :9], use_cache=True).past_key_values
        cached = ours(IDS[:, 9:], past_key_values=past).logits
        torch.testing.assert_close(cached, expected[:, 9:], atol=1e-5, rtol=0)

    export(done.folder, tmp_path / "back")
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("stock", "back"))
    assert {key: after.get(key) for key in before} == before
    back = GPT2LMHeadModel.from_pretrained(tmp_path / "back")
    with torch.no_grad():
        torch.testing.assert_close(back(IDS).logits, expected, atol=1e-6, rtol=0)


def test_the_scale_matters(tmp_path):
    """Without the setting the model is another one, which the proof would see."""
    plain, scaled = stock_gpt2(), stock_gpt2(scale_attn_by_inverse_layer_idx=True)
    with torch.no_grad():
        assert (plain(IDS).logits - scaled(IDS).logits).abs().max() > 1e-3


def test_folders_without_the_settings_load_as_before():
    old = {key: value for key, value in GPTScratchConfig().to_dict().items() if "attn" not in key or "pdrop" in key}
    config = GPTScratchConfig(**old)
    assert config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx


@pytest.mark.parametrize("name", ["by layer", "not at all"])
def test_gguf_export_is_refused(tmp_path, name):
    pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
    stock_gpt2(vocab_size=260, **SETTINGS[name]).save_pretrained(tmp_path / "stock")
    train_tokenizer(["a few words"] * 5, 260).save_pretrained(tmp_path / "stock")
    convert(tmp_path / "stock", tmp_path / "ours")
    with pytest.raises(InputError, match="scales attention in another way .* export it with --to hf-gpt2"):
        export_gguf(tmp_path / "ours", tmp_path / "gguf")
    assert not (tmp_path / "gguf").exists()
