"""Of several sets of weights in a folder, the one that transformers reads; and the one that the user names."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForCausalLM, check
from hf_gpt_scratch.conversion import checkpoint, proof
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.model_folder.weight_files import ORDER
from hf_gpt_scratch.pretrained import load_pretrained
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.checkpoints import (
    TINY,
    as_llms_from_scratch,
    as_nanogpt,
    make_sample,
    pickled,
    rewrite,
    set_config,
    sharded,
    stock_gpt2,
)
from support.models import save_model

IDS = torch.tensor([[1, 5, 7, 2]])


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def double(folder: Path) -> None:
    """The weights of another model of the same shape: all of them doubled."""
    file = folder / "model.safetensors"
    save_file({key: 2 * tensor for key, tensor in load_file(file).items()}, file, {"format": "pt"})


def with_sets(folder: Path, names: Sequence[str]) -> Path:
    """In place of the folder's weights those of several models, each as a file, or an index and shards, of a name."""
    original = folder.with_name("original")
    folder.rename(original)
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for name in names:
        made = folder.with_name("made")
        shutil.copytree(original, made)
        for _ in range(ORDER.index(name)):
            double(made)
        kind = "safetensors" if "safetensors" in name else "bin"
        if name.endswith(".index.json"):
            sharded(made, kind)
        elif kind == "bin":
            pickled(made)
        for path in [*made.glob("*.safetensors"), *made.glob("*.bin"), *made.glob("*.index.json")]:
            path.rename(folder / path.name)
        shutil.rmtree(made)
    return folder


@pytest.fixture
def stock(tmp_path) -> Path:
    stock_gpt2(**TINY).save_pretrained(tmp_path / "stock")
    return tmp_path / "stock"


@pytest.mark.parametrize("first", range(len(ORDER)), ids=ORDER.__getitem__)
def test_of_several_sets_of_weights_that_of_transformers_is_read(stock, tmp_path, first):
    with_sets(stock, ORDER[first:])
    done = convert(stock, tmp_path / "out", tokenizer="none")
    theirs, ours = GPT2LMHeadModel.from_pretrained(stock), GPTScratchForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(ours), logits(theirs))
    torch.testing.assert_close(logits(load_pretrained(GPTScratchForCausalLM, stock)), logits(theirs))
    ignored = "".join(done.notes).partition(": ")[2].rstrip(".").split(", ")
    assert [name for name in ORDER if name in ignored] == [*ORDER[first + 1 :]]


def test_the_file_that_config_json_names_comes_first(stock, tmp_path):
    with_sets(stock, ORDER[:1])
    shutil.copy(stock / "model.safetensors", stock / "best.safetensors")
    double(stock)
    set_config(stock, transformers_weights="best.safetensors")
    convert(stock, tmp_path / "out", tokenizer="none", prove=True)
    theirs, ours = GPT2LMHeadModel.from_pretrained(stock), GPTScratchForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(ours), logits(theirs))


def test_a_model_of_ours_beside_old_shards_is_exported_and_checked(tmp_path):
    folder = with_sets(save_model(tmp_path / "ours"), ORDER[:2])
    export(folder, tmp_path / "stock")
    ours, theirs = GPTScratchForCausalLM.from_pretrained(folder), GPT2LMHeadModel.from_pretrained(tmp_path / "stock")
    torch.testing.assert_close(logits(theirs), logits(ours))
    findings = {finding.name: finding for finding in check(folder)}
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert "not part of the model, so not uploaded: model-00001-of-00002" in findings["files"].detail
    uploaded = {path.name for path in ModelFolder.read(folder).files()}
    assert "model.safetensors" in uploaded and not any("of-00002" in name or "index" in name for name in uploaded)


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_the_proof_finds_out_that_the_wrong_file_was_read(stock, tmp_path, monkeypatch, prefix):
    rewrite(stock, lambda tensors: {prefix + key: tensor for key, tensor in tensors.items()})
    with_sets(stock, ORDER[:2])
    assert convert(stock, tmp_path / "right", tokenizer="none", prove=True).max_logit_difference < 1e-5
    monkeypatch.setattr(checkpoint, "first_weights", lambda *_: ORDER[1])
    with pytest.raises(InputError, match="logits differ from the source's"):
        convert(stock, tmp_path / "wrong", tokenizer="none", prove=True)


def test_what_transformers_cannot_read_is_proven_only_where_there_is_no_choice(stock, tmp_path, monkeypatch):
    rewrite(stock, lambda tensors: {f"module.{key}": tensor for key, tensor in tensors.items()})
    monkeypatch.setattr(proof, "WRAPPERS", {})
    assert convert(stock, tmp_path / "one", tokenizer="none", prove=True).max_logit_difference < 1e-5
    with_sets(stock, ORDER[:2])
    with pytest.raises(InputError, match="several sets of weights .*delete all but one"):
        convert(stock, tmp_path / "two", tokenizer="none", prove=True)


def sizes(folder: Path) -> Path:
    """A folder with files of two models of other sizes, and one in a folder of its own with its configuration."""
    for name, width in (("small", 8), ("large", 16)):
        torch.save(as_nanogpt(stock_gpt2(**{**TINY, "n_embd": width})), folder / f"{name}.pt")
    stock_gpt2(**{**TINY, "n_embd": 24}).save_pretrained(folder / "hf")
    (folder / "optimizer.pt").write_bytes(b"")
    return folder


@pytest.mark.parametrize("file, width", [("small.pt", 8), ("large.pt", 16), ("hf/model.safetensors", 24)])
def test_of_several_models_the_one_named_is_converted(tmp_path, file, width):
    source = sizes(tmp_path)
    with pytest.raises(InputError, match="hf/model.safetensors, large.pt, small.pt. Say which .*--file NAME"):
        convert(source, tmp_path / "out", tokenizer="none")
    done = convert(source, tmp_path / "out", tokenizer="none", prove=True, file=file)
    assert GPTScratchForCausalLM.from_pretrained(done.folder).config.n_embd == width
    assert json.loads((done.folder / "conversion.json").read_text())["file"] == file


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("shards", [False, True])
def test_weights_of_another_name_are_read_with_the_configuration_beside_them(stock, tmp_path, suffix, shards):
    shutil.copytree(stock, tmp_path / "old")
    if shards:
        sharded(tmp_path / "old", suffix)
    elif suffix == "bin":
        pickled(tmp_path / "old")
    double(stock)
    for path in (tmp_path / "old").glob("*model*"):
        shutil.move(path, stock / path.name.replace("model.", "old.") if "index" in path.name or not shards else stock)
    name = next(path.name for path in stock.iterdir() if "old." in path.name)
    convert(stock, tmp_path / "out", tokenizer="none", prove=True, file=name)
    theirs = GPT2LMHeadModel(stock_gpt2(**TINY).config)
    theirs.load_state_dict(stock_gpt2(**TINY).state_dict())
    torch.testing.assert_close(logits(GPTScratchForCausalLM.from_pretrained(tmp_path / "out")), logits(theirs))


def test_the_only_file_of_a_folder_is_converted(tmp_path):
    (tmp_path / "in").mkdir()
    torch.save(as_llms_from_scratch(stock_gpt2(**TINY)), tmp_path / "in" / "gpt.pth")
    assert "LLMs-from-scratch" in convert(tmp_path / "in", tmp_path / "out", tokenizer="none", n_head=2).format


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "best.safetensors"])
def test_weights_without_a_config_are_a_file_like_others(tmp_path, name, named):
    (tmp_path / "in").mkdir()
    weights = {key: tensor.clone() for key, tensor in as_nanogpt(stock_gpt2(**TINY))["model"].items()}
    (torch.save if name.endswith("bin") else save_file)(weights, tmp_path / "in" / name)
    with pytest.raises(UsageError, match=f"{name} does not hold the number of attention heads"):
        convert(tmp_path / "in", tmp_path / "out", tokenizer="none")
    if named:
        (tmp_path / "in" / "x.gguf").write_bytes(b"GGUF")
        with pytest.raises(InputError, match=f"several files of weights, .*{name}.*Say which"):
            convert(tmp_path / "in", tmp_path / "out", tokenizer="none", n_head=2)
    options = {"file": name} if named else {}
    convert(tmp_path / "in", tmp_path / "out", tokenizer="none", n_head=2, activation="gelu_new", **options)
    ours = GPTScratchForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(ours), logits(stock_gpt2(**TINY)))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_one_named_of_a_mixin_is_read_with_its_arguments(tmp_path, name):
    make_sample("hub-mixin", tmp_path / "in" / "small")
    small = tmp_path / "in" / "small"
    torch.save({key: 2 * part for key, part in load_file(small / "model.safetensors").items()}, small / ORDER[2])
    done = convert(tmp_path / "in", tmp_path / "out", tokenizer="none", file=f"small/{name}")
    assert done.format.endswith("of PyTorchModelHubMixin") and "n_head" not in done.assumed
    embeddings = GPTScratchForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight
    factor = 1 + (name == ORDER[2])
    torch.testing.assert_close(embeddings, factor * stock_gpt2(**TINY).lm_head.weight)


@pytest.mark.parametrize("beside", ["base/model.safetensors", "adapter.gguf"])
def test_an_adapter_is_one_whatever_is_beside_it(tmp_path, beside):
    source = make_sample("peft-adapter", tmp_path / "in").source
    shutil.copytree(source / "base", tmp_path / "base")
    if beside.endswith("gguf"):
        shutil.rmtree(source / "base")
        (source / beside).write_bytes(b"GGUF")
    settings = json.loads((source / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(tmp_path / "base")
    (source / "adapter_config.json").write_text(json.dumps(settings))
    assert "adapter" in convert(source, tmp_path / "out", tokenizer="none").format


def test_a_file_that_is_not_there_is_told(stock, tmp_path):
    with pytest.raises(InputError, match="no weights named b.bin; it has: model.safetensors"):
        convert(stock, tmp_path / "out", file="b.bin")
    with pytest.raises(UsageError, match="is a file: omit it"):
        convert(stock / "model.safetensors", tmp_path / "out", file="b.bin")


def test_a_damaged_file_is_told_by_its_own_name(stock, tmp_path):
    (stock / "model.safetensors").rename(stock / "old.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="old.safetensors") as refusal:
        convert(stock, tmp_path / "out", file="old.safetensors")
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_that_is_called_a_base_model_is_taken_for_what_it_is(tmp_path, tied):
    model = stock_gpt2(**TINY, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "in")
    set_config(tmp_path / "in", architectures=["GPT2Model"])
    if tied:
        assert "--as causal-lm" in "".join(convert(tmp_path / "in", tmp_path / "base", tokenizer="none").notes)
    else:
        with pytest.raises(InputError, match="add --as causal-lm"):
            convert(tmp_path / "in", tmp_path / "base", tokenizer="none")
    convert(tmp_path / "in", tmp_path / "out", tokenizer="none", prove=True, as_="causal-lm")
    torch.testing.assert_close(logits(GPTScratchForCausalLM.from_pretrained(tmp_path / "out")), logits(model))


def test_as_is_for_stock_gpt2(tmp_path):
    torch.save(as_nanogpt(stock_gpt2(**TINY)), tmp_path / "ckpt.pt")
    with pytest.raises(UsageError, match="--as does not apply to a nanogpt"):
        convert(tmp_path / "ckpt.pt", tmp_path / "out", tokenizer="none", as_="causal-lm")
