"""State dicts by themselves, as torch and safetensors keep them: of GPT-2's names, of the book's faster models."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from hf_gpt_scratch.conversion.convert import Conversion, convert
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.checkpoints import (
    as_build_nanogpt,
    as_faster_book,
    as_llms_from_scratch,
    as_nanogpt,
    assert_refused,
    random_weights,
    stock_gpt2,
)

IDS = torch.randint(100, (2, 16), generator=torch.Generator().manual_seed(0))
SIZES = {"vocab_size": 100, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4}


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits


def assert_converts(source: Path, model: PreTrainedModel, out: Path, **options) -> Conversion:
    """That the source becomes the model, and the proof agrees."""
    done = convert(source, out, tokenizer="none", prove=True, **options)
    with torch.no_grad():
        torch.testing.assert_close(logits(done.folder), model(IDS).logits, atol=5e-5, rtol=0)
    assert done.max_logit_difference < 5e-5
    return done


def without_bias(model: PreTrainedModel) -> PreTrainedModel:
    for name, parameter in model.named_parameters():
        parameter.data.mul_(not name.endswith(".bias"))
    return model


def linear(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """As nanoGPT and minGPT name the weights."""
    return {**as_nanogpt(model)["model"], "transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32).tril()}


def nothing_but_matrices(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in linear(model).items() if not name.endswith("bias")}


def conv1d(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return model.state_dict()


def base_names(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return model.transformer.state_dict()


def untied(**settings) -> PreTrainedModel:
    return stock_gpt2(**SIZES, tie_word_embeddings=False, **settings)


# The weights, the model they are of, and what the file does not tell
KINDS = {
    "nanoGPT": (linear, lambda: stock_gpt2(**SIZES, activation_function="gelu"), "gelu"),
    "nanoGPT without biases": (
        nothing_but_matrices,
        lambda: without_bias(stock_gpt2(**SIZES, activation_function="gelu")),
        "gelu",
    ),
    "minGPT": (linear, untied, "gelu_new"),
    "stock": (conv1d, lambda: stock_gpt2(**SIZES), "gelu_new"),
    "stock, untied": (conv1d, untied, "gelu_new"),
    "stock's base names": (base_names, lambda: stock_gpt2(**SIZES), "gelu_new"),
}


@pytest.mark.parametrize("weights, make, activation", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_bare_state_dict(tmp_path, weights, make, activation, suffix):
    model = make()
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(weights(model), file)
    else:
        safetensors.torch.save_file({name: part.clone() for name, part in weights(model).items()}, file)
    done = assert_converts(file, model, tmp_path / "out", n_head=4)
    scale = {"attention_scale": "root"} if weights in (conv1d, base_names) else {}  # which stock GPT-2 alone varies
    assert done.assumed == {"n_head": 4, "activation": activation, **scale}
    config = AutoModelForCausalLM.from_pretrained(done.folder).config
    assert config.tie_word_embeddings == model.config.tie_word_embeddings
    assert config.n_positions == 32


SCALES = {
    "root-and-layer": {"scale_attn_by_inverse_layer_idx": True},
    "none": {"scale_attn_weights": False},
}


@pytest.mark.parametrize("scale", SCALES)
def test_scale_of_attention_of_a_bare_state_dict_is_given(tmp_path, scale):
    model = stock_gpt2(**SIZES, **SCALES[scale])
    torch.save(conv1d(model), tmp_path / "model.pt")
    done = assert_converts(tmp_path / "model.pt", model, tmp_path / "out", n_head=4, attention_scale=scale)
    assert done.assumed == {"n_head": 4, "attention_scale": scale, "activation": "gelu_new"}
    done = convert(tmp_path / "model.pt", tmp_path / "other", tokenizer="none", n_head=4)
    assert done.guessed == {"attention_scale": "root", "activation": "gelu_new"}
    with torch.no_grad():
        assert (logits(done.folder) - model(IDS).logits).abs().max() > 1e-3


def test_scale_of_attention_of_a_mixin_repository_is_given(tmp_path):
    model = stock_gpt2(**SIZES, scale_attn_by_inverse_layer_idx=True)
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "config.json").write_text('{"n_head": 4}')
    weights = only_head(model.state_dict(), "lm_head.weight")
    safetensors.torch.save_file(weights, tmp_path / "repository" / "model.safetensors")
    options = {"attention_scale": "root-and-layer"}
    done = assert_converts(tmp_path / "repository", model, tmp_path / "out", **options)
    assert done.assumed == {**options, "activation": "gelu_new"} and done.guessed == {"activation": "gelu_new"}


def test_scale_of_attention_is_stock_gpt2s_alone(tmp_path):
    torch.save(linear(stock_gpt2(**SIZES)), tmp_path / "model.pt")
    with pytest.raises(UsageError, match="--attention-scale does not apply to .*, whose matrices are nanoGPT's or"):
        convert(tmp_path / "model.pt", tmp_path / "out", tokenizer="none", n_head=4, attention_scale="none")


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_state_dict_in_a_training_checkpoint(tmp_path, wrapper):
    model = stock_gpt2(**{**SIZES, "n_embd": 128, "n_head": 2})
    torch.save({wrapper: linear(model), "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "last.pt")
    done = assert_converts(tmp_path / "last.pt", model, tmp_path / "out", activation="gelu_new")
    assert done.assumed == {"n_head": 2, "activation": "gelu_new"}  # one head for every 64 dimensions


@pytest.mark.parametrize("weights", [linear, conv1d])
def test_padded_vocabulary_of_a_state_dict_is_cut(tmp_path, weights):
    model = untied()
    torch.save(weights(model), tmp_path / "model.pt")
    done = convert(tmp_path / "model.pt", tmp_path / "out", tokenizer="none", prove=True, n_head=4, vocab_size=90)
    ids = IDS % 90
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(done.folder).eval()(ids).logits
        torch.testing.assert_close(found, model(ids).logits[..., :90], atol=5e-5, rtol=0)


def test_heads_that_a_state_dict_does_not_hold_are_asked_for(tmp_path):
    torch.save(linear(stock_gpt2(**SIZES)), tmp_path / "model.pt")
    with pytest.raises(UsageError, match="width of 32 is not a multiple of 64: pass --n-head"):
        convert(tmp_path / "model.pt", tmp_path / "out", tokenizer="none")
    with pytest.raises(UsageError, match="--labels does not apply"):
        convert(tmp_path / "model.pt", tmp_path / "out", tokenizer="none", n_head=4, labels="a,b")


# Each matrix that is tied, by the name that safetensors' save_model keeps of its two
def only_head(weights: dict[str, torch.Tensor], embeddings: str) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items() if name != embeddings}


def test_tied_folder_that_holds_only_the_head(tmp_path):
    model = stock_gpt2(**SIZES)
    model.save_pretrained(tmp_path / "stock")
    weights = only_head(model.state_dict(), "transformer.wte.weight")
    safetensors.torch.save_file(weights, tmp_path / "stock" / "model.safetensors", {"format": "pt"})
    done = assert_converts(tmp_path / "stock", model, tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(done.folder).config.tie_word_embeddings


@pytest.mark.parametrize(
    "weights, embeddings",
    [
        (as_nanogpt, "transformer.wte.weight"),
        (lambda model: {"model": linear(model)}, "transformer.wte.weight"),
        (lambda model: {"model": conv1d(model)}, "transformer.wte.weight"),
        (lambda model: {"model": as_llms_from_scratch(model)}, "tok_emb.weight"),
    ],
    ids=["nanoGPT", "bare", "stock", "book"],
)
def test_tied_file_that_holds_only_the_head(tmp_path, weights, embeddings):
    model = stock_gpt2(**SIZES)
    content = weights(model)
    torch.save({**content, "model": only_head(content["model"], embeddings)}, tmp_path / "model.pt")
    options = {} if "model_args" in content else {"n_head": 4}
    options |= {} if embeddings == "tok_emb.weight" else {"activation": "gelu_new"}
    done = assert_converts(tmp_path / "model.pt", model, tmp_path / "out", **options)
    assert AutoModelForCausalLM.from_pretrained(done.folder).config.tie_word_embeddings


def test_build_nanogpts_checkpoint(tmp_path):
    model = stock_gpt2(**SIZES)
    torch.save(as_build_nanogpt(model), tmp_path / "model_19072.pt")
    done = assert_converts(tmp_path / "model_19072.pt", model, tmp_path / "out")
    assert done.format == "build-nanoGPT checkpoint"
    assert done.assumed == {"activation": "gelu_new"}  # build-nanogpt's GELU


def test_build_nanogpts_weights_alone_convert_too(tmp_path):
    """What the refusal of a file with code advises is not refused itself."""
    model = stock_gpt2(**SIZES)
    torch.save(as_build_nanogpt(model)["model"], tmp_path / "weights.pt")
    assert_converts(tmp_path / "weights.pt", model, tmp_path / "out", n_head=4, activation="gelu_new")


@pytest.mark.parametrize("sizes", [{}, {"n_head": "four"}, {"n_head": 5}], ids=["none", "a text", "not dividing"])
def test_configuration_of_build_nanogpt_that_makes_no_model_is_refused(tmp_path, sizes):
    content = as_build_nanogpt(stock_gpt2(**SIZES))
    content["config"].__dict__.update(sizes or dict.fromkeys(asdict(content["config"])))
    torch.save(content, tmp_path / "model.pt")
    assert_refused(tmp_path / "model.pt", "The config in .* must hold whole numbers|divisible by n_head")


@pytest.mark.parametrize("cut", [0, 7, 100, -5])
def test_safetensors_cut_short_are_refused(tmp_path, cut):
    file = tmp_path / "gpt.safetensors"
    safetensors.torch.save_file(as_faster_book(as_llms_from_scratch(stock_gpt2(**SIZES))), file)
    file.write_bytes(file.read_bytes()[:cut])
    assert_refused(file, "gpt.safetensors is damaged or cut short")


def test_safetensors_are_read_a_tensor_at_a_time(tmp_path, monkeypatch):
    """Opening one reads its header alone; nothing keeps a tensor that was read."""
    from hf_gpt_scratch.conversion.formats import open_source
    from hf_gpt_scratch.conversion.safetensors_reader import SafetensorsFile

    read = []
    get = SafetensorsFile.__getitem__
    monkeypatch.setattr(SafetensorsFile, "__getitem__", lambda file, name: read.append(name) or get(file, name))
    model = stock_gpt2(**SIZES)
    safetensors.torch.save_file(as_faster_book(as_llms_from_scratch(model)), tmp_path / "gpt.safetensors")
    open_source(tmp_path / "gpt.safetensors", n_head=4)
    assert set(read) <= {"tok_emb.weight", "out_head.weight"}  # which it compares


def test_weights_of_a_folder_are_converted_with_their_configuration(tmp_path):
    stock_gpt2(**SIZES).save_pretrained(tmp_path / "stock")
    with pytest.raises(InputError, match="belongs to a model folder, .* convert .*stock"):
        convert(tmp_path / "stock" / "model.safetensors", tmp_path / "out", tokenizer="none")


@pytest.fixture
def book() -> Callable:
    """The book's own classes, of its chapters and their faster and cached variants, by their modules' names."""
    pytest.importorskip("llms_from_scratch.ch04", reason="pip install --no-deps llms-from-scratch")
    from llms_from_scratch import ch04
    from llms_from_scratch.kv_cache import gpt2 as kv_cache

    return {"plain": ch04.GPTModel, "fast": ch04.GPTModelFast, "cached": kv_cache.GPTModel}


@pytest.mark.parametrize("variant", ["plain", "fast", "cached"])
@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_variants_of_the_book(book, tmp_path, variant, qkv_bias, suffix):
    settings = {"vocab_size": 100, "context_length": 32, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    model = random_weights(book[variant]({**settings, "drop_rate": 0.0, "qkv_bias": qkv_bias}))
    file = tmp_path / f"gpt.{suffix}"
    torch.save(model.state_dict(), file) if suffix == "pth" else safetensors.torch.save_model(model, file)
    done = convert(file, tmp_path / "out", tokenizer="none", prove=True, n_head=4)
    with torch.no_grad():
        torch.testing.assert_close(logits(done.folder), model(IDS), atol=5e-5, rtol=0)
    assert done.max_logit_difference < 5e-5


def test_faster_variant_of_the_book_without_its_classes(tmp_path):
    model = stock_gpt2(**SIZES)
    torch.save(as_faster_book(as_llms_from_scratch(model)), tmp_path / "fast.pth")
    assert_converts(tmp_path / "fast.pth", model, tmp_path / "out", n_head=4)
