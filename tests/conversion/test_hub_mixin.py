"""Repositories of PyTorchModelHubMixin, saved by huggingface_hub itself, become the same model."""

import json
import shutil
from dataclasses import dataclass

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from transformers import AutoModelForCausalLM

from hf_gpt_scratch.conversion import hub_mixin
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError, UsageError
from support.checkpoints import as_faster_book, as_llms_from_scratch, as_nanogpt, make_sample, stock_gpt2

IDS = torch.randint(100, (2, 16), generator=torch.Generator().manual_seed(0))


@dataclass
class Sizes:
    n_head: int = 4
    block_size: int = 64


def shaped(module: nn.Module, weights: dict[str, torch.Tensor], tied: tuple[str, str] | None) -> None:
    """Gives the module parameters of those names, of which two are one."""
    for name, tensor in weights.items():
        *parents, leaf = name.split(".")
        owner = module
        for part in parents:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        owner.register_parameter(leaf, nn.Parameter(tensor.clone()))
    if tied:
        first, second = (module.get_submodule(name.removesuffix(".weight")) for name in tied)
        first.weight = second.weight


class NanoGPT(nn.Module, PyTorchModelHubMixin):
    def __init__(self, config: Sizes):
        super().__init__()
        weights = as_nanogpt(stock_gpt2(n_positions=config.block_size, n_head=config.n_head))["model"]
        shaped(self, weights, ("transformer.wte.weight", "lm_head.weight"))


class Book(nn.Module, PyTorchModelHubMixin):
    def __init__(self, cfg: dict, tied: bool = True, fast: bool = False):
        super().__init__()
        weights = as_llms_from_scratch(stock_gpt2(n_head=cfg["n_heads"]))
        weights = as_faster_book(weights) if fast else weights
        shaped(self, weights, ("tok_emb.weight", "out_head.weight") if tied else None)


class Arguments(nn.Module, PyTorchModelHubMixin):
    def __init__(self, n_head: int = 4, dropout: float = 0.0):
        super().__init__()
        shaped(self, as_nanogpt(stock_gpt2(n_head=n_head))["model"], ("transformer.wte.weight", "lm_head.weight"))


MODELS = {
    "nanoGPT, of a dataclass": lambda: NanoGPT(Sizes()),
    "nanoGPT, of arguments": lambda: Arguments(n_head=4),
    "nanoGPT, of defaults": lambda: Arguments(),
    "the book's, of a dict": lambda: Book({"n_heads": 4, "emb_dim": 32}),
    "the book's, untied": lambda: Book({"n_heads": 4}, tied=False),
    "the book's faster": lambda: Book({"n_heads": 4}, fast=True),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_repository_becomes_the_same_model(tmp_path, make):
    make().save_pretrained(tmp_path / "repository")
    assert "model_type" not in json.loads((tmp_path / "repository" / "config.json").read_text())
    is_book = "tok_emb" in dict(make().named_children())
    options = {} if is_book else {"activation": "gelu_new"}
    done = convert(tmp_path / "repository", tmp_path / "out", tokenizer="none", prove=True, **options)
    assert done.format.endswith("of PyTorchModelHubMixin")
    assert done.assumed == options  # config.json holds the number of heads
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(done.folder).eval()(IDS).logits
        torch.testing.assert_close(found, stock_gpt2()(IDS).logits, atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    "stride, types", [(1, ["sliding", "full"]), (0, ["full", "full"]), (-1, ["sliding", "sliding"])]
)
def test_the_arguments_tell_the_windows(tmp_path, stride, types):
    cfg = {"n_heads": 4, "sliding_window_size": 8, "sliding_window_stride": stride}
    Book(cfg).save_pretrained(tmp_path / "repository")
    done = convert(tmp_path / "repository", tmp_path / "out", tokenizer="none", prove=True)
    config = json.loads((done.folder / "config.json").read_text())
    assert config["layer_types"] == [f"{kind}_attention" for kind in types] and config["sliding_window"] == 8
    assert done.assumed == {}


def test_its_files_are_recorded_and_heads_can_be_given(tmp_path):
    source = make_sample("hub-mixin", tmp_path / "in").source
    done = convert(source, tmp_path / "out", tokenizer="none", prove=True, n_head=4)
    record = json.loads((done.folder / "conversion.json").read_text())
    assert set(record["sha256"]) == {"model.safetensors", "config.json"}
    assert record["assumed"] == {"n_head": 4, "activation": "gelu"}


def test_options_that_it_has_no_use_for_are_refused(tmp_path):
    source = make_sample("hub-mixin", tmp_path / "in").source
    with pytest.raises(UsageError, match="--labels does not apply to .*, which holds a gpt2-state-dict model"):
        convert(source, tmp_path / "out", tokenizer="none", labels="a,b")


def test_only_its_own_characters_are_its_tokenizer(tmp_path):
    source = make_sample("hub-mixin", tmp_path / "in").source
    elsewhere = make_sample("nanogpt of characters", tmp_path / "characters").source.with_name("meta.pkl")
    shutil.copy(elsewhere, source.parent)
    assert hub_mixin.open_source(source).tokenizer is None
    shutil.copy(elsewhere, source)
    assert len(hub_mixin.open_source(source).tokenizer()) > 1


def test_a_model_of_other_names_is_refused(tmp_path):
    class Other(nn.Module, PyTorchModelHubMixin):
        def __init__(self, size: int = 3):
            super().__init__()
            self.layer = nn.Linear(size, size)

    Other().save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="no model of transformers .* llms-from-scratch, gpt2-state-dict"):
        convert(tmp_path / "other", tmp_path / "out", tokenizer="none")


def test_the_arguments_are_no_settings_of_generation(tmp_path):
    source = make_sample("hub-mixin", tmp_path / "in").source
    tokenizer = train_tokenizer(["a few words"] * 5, 260)
    tokenizer.save_pretrained(source)
    arguments = {"n_head": 2, "max_length": 77, "eos_token_id": 5}
    (source / "config.json").write_text(json.dumps(arguments))
    done = convert(source, tmp_path / "out")
    written = json.loads((done.folder / "generation_config.json").read_text())
    assert "max_length" not in written and written["eos_token_id"] == tokenizer.eos_token_id
    assert done.notes == ()
