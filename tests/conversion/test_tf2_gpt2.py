"""A TFGPT2 of transformers 4 becomes a model with stock GPT-2's logits."""

import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from hf_gpt_scratch import GPTScratchConfig
from hf_gpt_scratch.conversion.convert import convert
from support.checkpoints import assert_refused, pickled, stock_gpt2
from support.other_files import as_tf2, load_h5, save_h5

h5py = pytest.importorskip("h5py", reason="pip install -e '.[convert]'")
IDS = torch.randint(2, 100, (2, 16), generator=torch.Generator().manual_seed(0))  # no padding
VERSIONS = {
    "transformers 2 to 4": {"prefix": "transformer/tfgp_t2lm_head_model", "embeddings": "weight"},
    "transformers 4.46": {"prefix": "transformer", "embeddings": "embeddings"},  # as its own save_pretrained wrote
}


@pytest.fixture
def save(tmp_path):
    """Saves a stock GPT-2 as TFGPT2's `save_pretrained` did."""

    def save(architecture: str = "GPT2LMHeadModel", version: str = "transformers 4.46", **settings):
        model = stock_gpt2(architecture, **settings)
        folder = tmp_path / "tf"
        model.config.architectures = [architecture]
        model.config.save_pretrained(folder)
        save_h5(folder / "tf_model.h5", as_tf2(model, **VERSIONS[version]))
        return folder, model

    return save


def assert_same(auto_class, done, model) -> None:
    with torch.no_grad():
        ours, theirs = auto_class.from_pretrained(done.folder).eval()(IDS)[0], model(IDS)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert done.max_logit_difference < 1e-5


@pytest.mark.parametrize("version", VERSIONS)
def test_logits_are_those_of_stock_gpt2(save, tmp_path, version):
    folder, model = save(version=version, activation_function="gelu")
    done = convert(str(folder), tmp_path / "out", tokenizer="none", prove=True)
    assert done.format == "TensorFlow 2 GPT-2 of transformers"
    assert_same(AutoModelForCausalLM, done, model)


def test_a_classifier_and_a_base_model_too(save, tmp_path):
    folder, model = save("GPT2ForSequenceClassification", num_labels=3)
    done = convert(str(folder), tmp_path / "classifier", tokenizer="none", prove=True)
    assert_same(AutoModelForSequenceClassification, done, model)
    folder, model = save("GPT2Model")
    done = convert(str(folder), tmp_path / "base", tokenizer="none", prove=True)
    assert_same(AutoModel, done, model)
    assert any("--as causal-lm" in note for note in done.notes)
    done = convert(str(folder), tmp_path / "named", tokenizer="none", prove=True, as_="causal-lm")
    assert done.notes == () and GPTScratchConfig.from_pretrained(done.folder).architectures == [
        "GPTScratchForCausalLM"
    ]


def test_the_class_may_be_named_as_in_tensorflow(save, tmp_path):
    folder, model = save("GPT2LMHeadModel")
    model.config.architectures = ["TFGPT2LMHeadModel"]
    model.config.save_pretrained(folder)
    done = convert(str(folder), tmp_path / "out", tokenizer="none", prove=True)
    assert_same(AutoModelForCausalLM, done, model)


def test_weights_of_torch_come_first(save, tmp_path):
    folder, _ = save()
    other = stock_gpt2(n_layer=1)
    other.save_pretrained(folder)
    assert convert(str(folder), tmp_path / "out", tokenizer="none").format == "stock transformers GPT-2"
    pickled(folder)
    assert convert(str(folder), tmp_path / "again", tokenizer="none").format == "stock transformers GPT-2"


def changed(change):
    def damage(path) -> None:
        variables = load_h5(path)
        change(variables)
        save_h5(path, variables)

    return damage


def huge(path) -> None:
    with h5py.File(path, "a") as file:
        file["transformer"].create_dataset("x", (10**6, 10**6), "f4", chunks=(1000, 1000))


def elsewhere(path) -> None:
    (path.parent.parent / "secret").write_bytes(bytes(4 * 100))
    with h5py.File(path, "a") as file:
        name = "transformer/transformer/ln_f/beta:0"
        del file[name]
        file.create_dataset(name, (32,), "f4", external=[(str(path.parent.parent / "secret"), 0, 128)])


def linked(path) -> None:
    with h5py.File(path, "a") as file:
        del file["transformer/transformer/ln_f"]
        file["transformer/transformer/ln_f"] = h5py.ExternalLink("other.h5", "/")


DAMAGES = {
    "terabytes": (huge, "claim more than the file holds"),
    "an array in another file": (elsewhere, "keeps arrays in other files"),
    "a link to another file": (linked, r"missing transformer.ln_f.weight"),
    "an optimizer's": (changed(lambda v: v.update({"optimizer/iter:0": torch.zeros(1)})), "unknown optimizer.iter"),
    "no bias": (changed(lambda v: v.pop("transformer/transformer/ln_f/beta:0")), "missing transformer.ln_f.bias"),
    "text": (lambda path: path.write_text("{}"), "tf_model.h5 is damaged or cut short"),
}


@pytest.mark.parametrize("damage, complaint", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_refused(save, damage, complaint):
    folder, _ = save()
    damage(folder / "tf_model.h5")
    assert_refused(folder, complaint)


def test_missing_package_is_named(save, monkeypatch):
    folder, _ = save()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert_refused(folder, r"needs the package h5py: pip install -c constraints.txt -e '\.\[convert\]'")
