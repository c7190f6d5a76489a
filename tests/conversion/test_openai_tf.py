"""OpenAI's TensorFlow checkpoint of GPT-2 becomes a model with the same logits."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_gpt_scratch.conversion import openai_tf
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.provenance import sha256
from support.checkpoints import as_openai_tf, save_variables, stock_gpt2

IDS = torch.randint(100, (2, 16), generator=torch.Generator().manual_seed(0))
HPARAMS = {"n_vocab": 100, "n_ctx": 32, "n_embd": 32, "n_head": 4, "n_layer": 2}


def save(folder: Path, variables: dict, **hparams) -> Path:
    folder.mkdir(exist_ok=True)
    save_variables(folder, variables)
    (folder / "hparams.json").write_text(json.dumps({**HPARAMS, **hparams}))
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, torch.Tensor]:
    """A folder like OpenAI's, without the tokenizer, and the logits of stock GPT-2 with the same weights."""
    model = stock_gpt2(n_positions=32)
    folder = save(tmp_path_factory.mktemp("published"), as_openai_tf(model))
    with torch.no_grad():
        return folder, model(IDS).logits


@pytest.fixture
def folder(published, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(published[0], tmp_path / "gpt2")


@pytest.mark.parametrize("format", ["auto", "openai-tf"])
def test_logits_are_those_of_stock_gpt2(published, tmp_path, format):
    folder, expected = published
    done = convert(str(folder), tmp_path / "out", format, tokenizer="none", prove=True)
    assert done.format == "GPT-2 of OpenAI in TensorFlow"
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, expected, atol=1e-5, rtol=0)
    assert model.config.tie_word_embeddings and model.config.qkv_bias
    record = json.loads((done.folder / "conversion.json").read_text())
    assert record["max_logit_difference"] == done.max_logit_difference < 1e-5
    assert record["sha256"] == {path.name: sha256(path) for path in folder.iterdir()}
    assert len(record["sha256"]) == 5


def test_only_sizes_and_weights_are_needed(folder, tmp_path):
    for name in ("checkpoint", "model.ckpt.meta"):
        (folder / name).unlink()
    convert(str(folder), tmp_path / "out", tokenizer="none", prove=True)


def test_tokenizer_is_the_folders_own(tmp_path, shared_data):
    sizes = {"n_embd": 8, "n_head": 2, "n_layer": 1}
    variables = as_openai_tf(stock_gpt2(vocab_size=50257, n_positions=32, **sizes))
    folder = save(tmp_path / "gpt2", variables, n_vocab=50257, **sizes)
    shutil.copy(shared_data / "gpt2_tokenizer" / "vocab.json", folder / "encoder.json")
    shutil.copy(shared_data / "gpt2_tokenizer" / "merges.txt", folder / "vocab.bpe")
    out = convert(str(folder), tmp_path / "out").folder
    assert AutoTokenizer.from_pretrained(out)("Hello world<|endoftext|>").input_ids == [15496, 995, 50256]
    (folder / "encoder.json").write_text("{")
    with pytest.raises(InputError, match="holds no tokenizer that can be read"):
        convert(str(folder), tmp_path / "other")
    (folder / "encoder.json").unlink()
    with pytest.raises(InputError, match="pass a folder that holds one as --tokenizer"):  # no network in tests
        convert(str(folder), tmp_path / "other")


def test_tensors_are_read_one_at_a_time(published, monkeypatch):
    source = openai_tf.open_source(published[0])
    read = []
    reader = source.tensors._tensors._tensors
    monkeypatch.setattr(type(reader), "__getitem__", lambda self, name: read.append(name) or torch.zeros(1, 32, 96))
    assert source.tensors["model.h1.attn.c_attn.w"].shape == (32, 96)
    assert read == ["model/h1/attn/c_attn/w"]


def test_without_tensorflow_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for name in openai_tf.FILES:
        (tmp_path / name).touch()
    (tmp_path / "hparams.json").write_text(json.dumps(HPARAMS))
    with pytest.raises(InputError, match=r"tensorflow: pip install -c constraints.txt -e '\.\[convert\]'\.$"):
        openai_tf.open_source(tmp_path)


@pytest.fixture
def trained(folder) -> Path:
    """The folder as gpt-2-simple's `finetune` leaves it: `save(session, "model", global_step)`, and `counter`."""
    for path in folder.glob("model.ckpt.*"):
        path.rename(folder / path.name.replace("model.ckpt", "model-1000"))
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "model-1000"\nall_model_checkpoint_paths: "model-1000"\n'
    )
    (folder / "counter").write_text("1000\n")
    return folder


def test_a_checkpoint_of_gpt_2_simple_is_as_openais(trained, published, tmp_path):
    done = convert(str(trained), tmp_path / "out", tokenizer="none", prove=True)
    assert done.format == "GPT-2 of OpenAI in TensorFlow, model-1000" and done.notes == ()
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, published[1], atol=1e-5, rtol=0)
    record = json.loads((done.folder / "conversion.json").read_text())
    assert record["sha256"].keys() == {path.name for path in trained.iterdir()} - {"counter"}


def older(folder: Path) -> None:
    """Another checkpoint beside it, with other weights."""
    (folder / "x").mkdir()
    variables = as_openai_tf(stock_gpt2(n_positions=32))
    variables["model/wte"] = variables["model/wte"] * 2
    save_variables(folder / "x", variables)
    for path in (folder / "x").glob("model.ckpt.*"):
        path.rename(folder / path.name.replace("model.ckpt", "model-900"))
    shutil.rmtree(folder / "x")


def test_the_newest_is_taken_by_the_file_checkpoint_else_asked_for(trained, published, tmp_path):
    older(trained)
    done = convert(str(trained), tmp_path / "out", tokenizer="none", prove=True)
    model = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    torch.testing.assert_close(model(IDS).logits, published[1], atol=1e-5, rtol=0)
    assert "model-1000 is the newest" in done.notes[0] and "not taken: model-900" in done.notes[0]
    (trained / "checkpoint").write_text('model_checkpoint_path: "/content/checkpoint/run1/model-900"\n')
    assert convert(str(trained), tmp_path / "other", tokenizer="none").format.endswith("model-900")
    (trained / "checkpoint").unlink()
    with pytest.raises(InputError, match=r"model-1000, model-900, and no file .*: give the path of one.*900.index\.$"):
        convert(str(trained), tmp_path / "third", tokenizer="none")
    done = convert(str(trained / "model-1000.index"), tmp_path / "third", tokenizer="none", prove=True)
    assert done.format.endswith("model-1000")


def test_a_checkpoint_that_is_not_there_is_said(trained, tmp_path):
    (trained / "checkpoint").write_text('model_checkpoint_path: "model-2000"\n')
    done = convert(str(trained), tmp_path / "out", tokenizer="none")
    assert "names model-2000, which is not there; model-1000 was taken" in done.notes[0]


def test_what_the_optimizer_kept_is_left_out(tmp_path):
    variables = as_openai_tf(stock_gpt2(n_positions=32))
    of_adam = {f"{name}/{slot}": value for name, value in variables.items() for slot in ("Adam", "Adam_1")}
    steps = {"beta1_power": 0.9, "beta2_power": 0.99, "global_step": 7}
    folder = save(tmp_path / "gpt2", {**variables, **of_adam, **steps})
    done = convert(str(folder), tmp_path / "out", tokenizer="none", prove=True)
    assert done.notes == (f"{2 * len(variables) + 3} variables of the optimizer in {folder}/model.ckpt are left out.",)


def hparams(**changes):
    return lambda folder: (folder / "hparams.json").write_text(json.dumps({**HPARAMS, **changes}))


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-500])


def flip(folder: Path) -> None:
    data = folder / "model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[1000] ^= 1
    data.write_bytes(content)


DATA = "model.ckpt.data-00000-of-00001"
DAMAGES = {
    "no index": (lambda folder: (folder / "model.ckpt.index").unlink(), "lacks model.ckpt.index"),
    "no data": (lambda folder: (folder / DATA).unlink(), f"lacks {DATA}"),
    "index cut short": (cut("model.ckpt.index"), "damaged or cut short"),
    "index empty": (lambda folder: (folder / "model.ckpt.index").write_bytes(b""), "damaged or cut short"),
    "index of another kind": (lambda folder: (folder / "model.ckpt.index").write_bytes(b"a" * 999), "damaged or cut"),
    "data cut short": (cut(DATA), "damaged or cut short"),
    "a bit flipped": (flip, "damaged or cut short .*hecksum"),
    "settings no JSON": (lambda folder: (folder / "hparams.json").write_text("{"), "is not valid JSON"),
    "settings a list": (lambda folder: (folder / "hparams.json").write_text("[]"), "must hold whole numbers"),
    "settings no number": (hparams(n_head="4"), "must hold whole numbers"),
    "no head": (hparams(n_head=0), "must hold whole numbers above 0"),
    "heads that do not divide": (hparams(n_head=5), "divisible by n_head"),
    "a billion blocks": (hparams(n_layer=10**9), "claims to have 1000000000 blocks"),
    "a block too few": (hparams(n_layer=1), "unknown model.h1.attn.c_attn.b"),
    "a block too many": (hparams(n_layer=3), "missing model.h2.ln_1.g"),
    "another width": (hparams(n_embd=64), r"model.wte has shape \[100, 32\] instead of \[100, 64\]"),
}


@pytest.mark.parametrize("damage, complaint", DAMAGES.values(), ids=DAMAGES)
def test_damaged_folder_is_refused(folder, tmp_path, damage, complaint):
    damage(folder)
    with pytest.raises(InputError, match=complaint) as refusal:
        convert(str(folder), tmp_path / "out", tokenizer="none")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2"]


CHANGES = {
    "slot of no variable": (lambda v: v.update({"model/w/Adam": v["model/wte"]}), "unknown model.w.Adam"),
    "counter": (lambda v: v.update(counter=7), "unknown counter"),
    "missing": (lambda v: v.pop("model/h1/ln_2/b"), "missing model.h1.ln_2.b"),
    "matrix without its 1": (
        lambda v: v.update({"model/h0/mlp/c_fc/w": v["model/h0/mlp/c_fc/w"][0]}),
        r"must have the shape \[1, in, out\], but these do not: model.h0.mlp.c_fc.w \[32, 128\]",
    ),
    "wide convolution": (
        lambda v: v.update({"model/h0/mlp/c_fc/w": v["model/h0/mlp/c_fc/w"].reshape(2, 16, 128)}),
        r"these do not: model.h0.mlp.c_fc.w \[2, 16, 128\]",
    ),
    "transposed": (
        lambda v: v.update({"model/h0/mlp/c_fc/w": v["model/h0/mlp/c_fc/w"].transpose(0, 2, 1)}),
        r"model.h0.mlp.c_fc.w has shape \[128, 32\] instead of \[32, 128\]",
    ),
    "not finite": (
        lambda v: v.update({"model/ln_f/b": v["model/ln_f/b"] * float("nan")}),
        "has NaN or infinite values",
    ),
    "whole numbers": (
        lambda v: v.update({"model/ln_f/b": v["model/ln_f/b"].astype("int32")}),
        "Weights must be of one of the types .*: model.ln_f.b.",
    ),
    "same weight twice": (
        lambda v: v.update({"model.ln_f/b": v["model/ln_f/b"]}),
        "model.ln_f/b and model/ln_f/b are the same weight",
    ),
}


@pytest.mark.parametrize("change, complaint", CHANGES.values(), ids=CHANGES)
def test_other_variables_are_refused(tmp_path, change, complaint):
    variables = as_openai_tf(stock_gpt2(n_positions=32))
    change(variables)
    folder = save(tmp_path / "gpt2", variables)
    with pytest.raises(InputError, match=complaint):
        convert(str(folder), tmp_path / "out", tokenizer="none")
    assert [path.name for path in tmp_path.iterdir()] == ["gpt2"]
