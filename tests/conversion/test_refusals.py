"""Stock GPT-2s and folders of our own that cannot be converted: each is refused in a sentence, nothing is written."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchModel
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.tokenizer import train_tokenizer
from support.checkpoints import assert_refused, rewrite, set_config, stock_gpt2


def save_stock(folder: Path, **settings) -> None:
    stock_gpt2(**settings).save_pretrained(folder)


@pytest.fixture
def source(tmp_path) -> Path:
    save_stock(tmp_path / "stock")
    return tmp_path / "stock"


def test_all_keys_that_do_not_fit_are_named(source):
    def spoil(tensors: dict) -> dict:
        tensors["transformer.h.0.attn.extra"], tensors["another"] = torch.ones(1), torch.ones(1)
        del tensors["transformer.wpe.weight"], tensors["transformer.h.1.mlp.c_fc.bias"]
        tensors["transformer.ln_f.bias"] = torch.ones(31)
        tensors["transformer.h.1.attn.c_attn.weight"] = torch.ones(96, 32)  # an nn.Linear's, not transposed
        return tensors

    rewrite(source, spoil)
    named = (
        *("missing transformer.wpe.weight", "missing transformer.h.1.mlp.c_fc.bias"),
        *("unknown transformer.h.0.attn.extra", "unknown another"),
        r"transformer.ln_f.bias has shape \[31\] instead of \[32\]",
        r"transformer.h.1.attn.c_attn.weight has shape \[96, 32\] instead of \[32, 96\]",
    )
    assert_refused(source, "".join(f"(?=.*{part})" for part in named))


def test_export_names_all_keys_that_do_not_fit(tmp_path, tiny_config):
    GPTScratchForCausalLM(tiny_config).save_pretrained(tmp_path / "ours")
    rewrite(tmp_path / "ours", lambda tensors: {"extra" if "h.1." in key else key: tensors[key] for key in tensors})
    assert_refused(tmp_path / "ours", r"(?=.*missing transformer\.h\.1\.ln_1\.weight)(?=.*unknown extra)", export)


def change_head(tensors: dict) -> dict:
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"] + 1}


def double_wte(tensors: dict) -> dict:
    return {**tensors, "wte.weight": tensors["transformer.wte.weight"].clone()}


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def only_an_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json").write_text("{}")


def only_an_index_alone(folder: Path) -> None:
    only_an_index(folder)
    (folder / "config.json").unlink()


def configured(**settings) -> Callable[[Path], None]:
    return lambda folder: set_config(folder, **settings)


UNUSABLE = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
    "index without a map": (only_an_index, "not an index"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "does not hold the number of attention heads"),
    "no config and an index": (only_an_index_alone, "no config.json beside it"),
    "neither config nor weights": (
        lambda folder: [(folder / name).unlink() for name in ("config.json", "model.safetensors")],
        "neither config.json",
    ),
    "config of another model": (configured(model_type="llama"), "type 'llama'; expected 'gpt2'"),
    "broken config": (write("config.json", '{"model_type": '), "not valid JSON"),
    "list for a config": (write("config.json", "[]"), "does not hold a JSON object"),
    "setting of the wrong type": (configured(n_layer="two"), "n_layer"),
    "heads that do not divide the width": (configured(n_head=5), "n_head"),
    "unknown activation": (configured(activation_function="sine"), "sine"),
    "cross-attention": (configured(add_cross_attention=True), "add_cross_attention"),
    "head we lack": (configured(architectures=["GPT2DoubleHeadsModel"]), "GPT2DoubleHeadsModel"),
    "head that is tied but differs": (lambda folder: rewrite(folder, change_head), "lm_head.weight differs"),
    "one weight twice": (lambda folder: rewrite(folder, double_wte), "same weight"),
    "broken tokenizer": (write("tokenizer.json", "{"), "tokenizer"),
    "broken generation config": (write("generation_config.json", "{"), "generation_config.json"),
}


@pytest.mark.parametrize("damage, complaint", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_source_is_refused(source, damage, complaint):
    damage(source)
    assert_refused(source, complaint)


def test_export_of_a_config_no_model_can_be_built_from_is_refused(tmp_path, tiny_config):
    GPTScratchModel(tiny_config).save_pretrained(tmp_path / "ours")
    set_config(tmp_path / "ours", n_head=5)
    assert_refused(tmp_path / "ours", "n_head", export)


def test_existing_folder_is_not_touched(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert_refused(source, "out already exists")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path):
    save_stock(tmp_path / "stock", vocab_size=270)
    tokenizer = train_tokenizer(["a few words"] * 5, 266)
    tokenizer.add_tokens([f"word{i}" for i in range(270 - len(tokenizer))])
    tokenizer.save_pretrained(tmp_path / "stock")
    convert(str(tmp_path / "stock"), tmp_path / "fits")
    tokenizer.add_tokens(["one more"])
    tokenizer.save_pretrained(tmp_path / "stock")
    assert_refused(tmp_path / "stock", "tokens up to 270, but the model only 270: pass .* as --tokenizer DIR")
    convert(str(tmp_path / "stock"), tmp_path / "without", tokenizer="none")


@pytest.mark.parametrize("n_embd", [32, 8], ids=["while writing weights", "while writing code"])
def test_full_disk_ends_in_one_sentence_and_leaves_nothing(tmp_path, n_embd):
    # A limit on the size of a file stands in for the full disk; the code is larger than weights of width 8.
    save_stock(tmp_path / "stock", n_embd=n_embd)
    code = """
import resource, sys
from hf_gpt_scratch.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(["convert", *sys.argv[1:]]))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "stock"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "stock"]
