import json
import os
import shutil
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
    assert {key: after.get(key) for key in before} == before
    assert after["n_ctx"] == 64  # for llama.cpp


def sharded(folder: Path, suffix: str) -> None:
    """Spreads the weights over two shards, as safetensors or as pickled files."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    weight_map = {key: f"{stem}-0000{1 + i % 2}-of-00002.{suffix}" for i, key in enumerate(tensors)}
    for file in set(weight_map.values()):
        shard = {key: tensors[key] for key in tensors if weight_map[key] == file}
        save_file(shard, folder / file) if suffix == "safetensors" else torch.save(shard, folder / file)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def pickled(folder: Path, **options) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin", **options)
    (folder / "model.safetensors").unlink()


def prefixed(prefix: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda tensors: {prefix + key: tensors[key] for key in tensors})


def without_base_prefix(tensors: dict) -> dict:
    return {key.removeprefix("transformer."): tensor for key, tensor in tensors.items()}


def with_old_buffers(tensors: dict) -> dict:
    mask = torch.ones(64, 64, dtype=torch.bool).tril().view(1, 1, 64, 64)
    buffers = {f"h.{i}.attn.{name}": mask.clone() for i in range(2) for name in ("bias", "masked_bias")}
    return {**tensors, **{f"transformer.{key}": tensor for key, tensor in buffers.items()}}


def with_tied_head(tensors: dict) -> dict:
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()}


SPELLINGS = {
    "sharded safetensors": lambda folder: sharded(folder, "safetensors"),
    "pytorch_model.bin": pickled,
    "bin of torch before 1.6": lambda folder: pickled(folder, _use_new_zipfile_serialization=False),
    "sharded bin": lambda folder: sharded(folder, "bin"),
    "no transformer prefix": lambda folder: rewrite(folder, without_base_prefix),
    "old mask buffers": lambda folder: rewrite(folder, with_old_buffers),
    "old mask buffers without prefix": lambda folder: rewrite(
        folder, lambda t: without_base_prefix(with_old_buffers(t))
    ),
    "head saved although tied": lambda folder: rewrite(folder, with_tied_head),
    "no architecture in the config": lambda folder: set_config(folder, architectures=None),
    **{prefix: prefixed(prefix) for prefix in ("_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.")},
}


@pytest.mark.parametrize("respell", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_of_a_checkpoint_converts_to_the_same_weights(source, tmp_path, respell):
    convert(str(source), tmp_path / "plain")
    respell(source)
    convert(str(source), tmp_path / "out")
    assert_same_tensors(weights(tmp_path / "out"), weights(tmp_path / "plain"))


def test_reward_model_with_a_padding_token_among_its_words_is_proven(tmp_path):
    stock(tmp_path / "stock", "GPT2ForSequenceClassification", num_labels=1, pad_token_id=99)
    assert convert(str(tmp_path / "stock"), tmp_path / "ours", prove=True).max_logit_difference < 1e-5


@pytest.mark.parametrize("architecture", ["GPT2Model", "GPT2ForSequenceClassification"])
def test_tied_language_model_head_of_another_architecture_is_left_out(source, tmp_path, architecture):
    stock(source, architecture)
    convert(str(source), tmp_path / "plain")
    wte = "wte.weight" if architecture == "GPT2Model" else "transformer.wte.weight"
    rewrite(source, lambda tensors: {**tensors, "lm_head.weight": tensors[wte].clone()})
    convert(str(source), tmp_path / "out")
    assert_same_tensors(weights(tmp_path / "out"), weights(tmp_path / "plain"))


def test_untied_head_stays_untied(tmp_path):
    theirs = stock(tmp_path / "stock", tie_word_embeddings=False)
    convert(str(tmp_path / "stock"), tmp_path / "ours")
    ours = GPTScratchForCausalLM.from_pretrained(tmp_path / "ours")
    assert ours.lm_head.weight is not ours.transformer.wte.weight
    torch.testing.assert_close(output(ours), output(theirs), atol=1e-5, rtol=0)
    export(str(tmp_path / "ours"), tmp_path / "back")
    assert_same_tensors(weights(tmp_path / "back"), weights(tmp_path / "stock"))


@pytest.mark.parametrize("key", ["dtype", "torch_dtype", "nothing"], ids="config says {}".format)
def test_half_precision_weights_keep_their_dtype(source, tmp_path, key):
    rewrite(source, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    set_config(source, **{"dtype": None, key: "float16"})
    convert(str(source), tmp_path / "ours")
    assert {tensor.dtype for tensor in weights(tmp_path / "ours").values()} == {torch.float16}
    assert GPTScratchForCausalLM.from_pretrained(tmp_path / "ours").dtype == torch.float16
    export(str(tmp_path / "ours"), tmp_path / "back")
    assert_same_tensors(weights(tmp_path / "back"), weights(source))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_model_without_qkv_bias_is_exported_with_zeros(tmp_path, tiny_config, dtype):
    tiny_config.qkv_bias = False
    ours = random_weights(GPTScratchForCausalLM(tiny_config))
    ours.to(dtype).save_pretrained(tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "stock")
    assert {tensor.dtype for tensor in weights(tmp_path / "stock").values()} == {dtype}
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "stock", dtype=torch.float32)
    torch.testing.assert_close(output(theirs), output(ours.float()), atol=1e-5, rtol=0)


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


class Code:
    """Pickles into a call that makes the folder `ran`."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("content", [Code(), {"transformer.wte.weight": Code()}], ids=["bare", "as a tensor"])
@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_pickle_is_not_run(source, monkeypatch, content, new_format):
    monkeypatch.chdir(source)
    (source / "model.safetensors").unlink()
    torch.save(content, source / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    assert_refused(source, "more than tensors")
    assert not (source / "ran").exists()
    torch.load(source / "pytorch_model.bin", weights_only=False)
    assert (source / "ran").exists()  # it would have run


def cut_short(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:20_000])


def cut_short_bin(folder: Path) -> None:
    pickled(folder)
    cut_short(folder, "pytorch_model.bin")


def lose_shard(folder: Path) -> None:
    sharded(folder, "safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()


def point_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"transformer.wte.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def change_head(tensors: dict) -> dict:
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"] + 1}


def double_wte(tensors: dict) -> dict:
    return {**tensors, "wte.weight": tensors["transformer.wte.weight"].clone()}


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def configured(**settings) -> Callable[[Path], None]:
    return lambda folder: set_config(folder, **settings)


UNUSABLE = {
    "truncated safetensors": (lambda folder: cut_short(folder, "model.safetensors"), "damaged or cut short"),
    "truncated bin": (cut_short_bin, "damaged"),
    "empty bin": (lambda folder: (pickled(folder), write("pytorch_model.bin", "")(folder)), "damaged"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
    "missing shard": (lose_shard, "lacks the shard model-00002-of-00002.safetensors"),
    "index to another folder": (point_outside, "points outside its folder"),
    "index without a map": (write("model.safetensors.index.json", "{}"), "not an index"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "config of another model": (configured(model_type="llama"), "type 'llama'; expected 'gpt2'"),
    "broken config": (write("config.json", '{"model_type": '), "not valid JSON"),
    "list for a config": (write("config.json", "[]"), "holds no settings"),
    "setting of the wrong type": (configured(n_layer="two"), "n_layer"),
    "heads that do not divide the width": (configured(n_head=5), "n_head"),
    "unknown activation": (configured(activation_function="sine"), "sine"),
    "scaled by layer": (configured(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
    "attention not scaled": (configured(scale_attn_weights=False), "scale_attn_weights"),
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


@pytest.mark.parametrize("n_embd", [32, 8], ids=["while writing weights", "while writing code"])
def test_full_disk_ends_in_one_sentence_and_leaves_nothing(tmp_path, n_embd):
    # A limit on the size of a file stands in for the full disk; the code is larger than weights of width 8.
    stock(tmp_path / "stock", n_embd=n_embd)
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


@pytest.fixture
def large_folder(tmp_path):
    """A folder that does not stay on disk after the test, as pytest's do."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("way", ["convert", "export"])
def test_conversion_holds_one_shard_at_a_time(large_folder, way):
    # 202 MB in fp32. The peak is read from /proc, as ru_maxrss counts what this process held when it forked.
    stock(large_folder / "src", n_embd=1024, n_layer=4)
    if way == "export":
        convert(str(large_folder / "src"), large_folder / "ours")
    code = """
import re, sys
from functools import partial
from pathlib import Path
from hf_gpt_scratch import conversion
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
conversion.write_safetensors = partial(conversion.write_safetensors, max_shard_size="20MB")
start = peak()
getattr(conversion, sys.argv[1])(sys.argv[2], sys.argv[3])
print(peak() - start)
"""
    source = str(large_folder / ("src" if way == "convert" else "ours"))
    command = [sys.executable, "-c", code, way, source, str(large_folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shards = [path.stat().st_size for path in (large_folder / "out").glob("*.safetensors")]
    assert len(shards) > 5 and sum(shards) > 200e6
    assert int(done.stdout) < 0.8 * sum(shards)


def test_tokenizer_is_carried_along_both_ways(source, tmp_path):
    tokenizer = train_tokenizer(
        ["see you at home", "win a prize"] * 5, 280, individual_digits=True, model_max_length=64
    )
    tokenizer.save_pretrained(source)
    convert(str(source), tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "back")
    texts = ["win 10 prizes at home", "ça va ☃"]
    for folder in ("ours", "back"):
        carried = AutoTokenizer.from_pretrained(tmp_path / folder)
        assert carried(texts)["input_ids"] == tokenizer(texts)["input_ids"]
        assert (carried.pad_token, carried.model_max_length) == (tokenizer.pad_token, 64)


def test_tokenizer_config_is_the_same_after_both_ways(source, tmp_path):
    train_tokenizer(["a few words"], 270).save_pretrained(source)
    convert(source, tmp_path / "ours")
    export(tmp_path / "ours", tmp_path / "back")
    before, after = ((f / "tokenizer_config.json").read_text() for f in (tmp_path / "ours", tmp_path / "back"))
    assert after == before == (source / "tokenizer_config.json").read_text()


def test_tokenizer_of_two_files_is_carried_along(source, tmp_path, shared_data):
    for name in ("vocab.json", "merges.txt"):
        (source / name).write_bytes((shared_data / "gpt2_tokenizer" / name).read_bytes())
    convert(str(source), tmp_path / "ours")
    assert AutoTokenizer.from_pretrained(tmp_path / "ours")("Hello world")["input_ids"] == [15496, 995]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 7, "eos_token_id": [0, 5], "do_sample": True, "temperature": 0.7},
        {"temperature": 0.7},  # without do_sample it has no effect, but many published folders say so
    ],
    ids=["sampling", "inert temperature"],
)
def test_generation_config_is_carried_along_both_ways(source, tmp_path, settings):
    (source / "generation_config.json").write_text(json.dumps({"transformers_version": "4.26.0", **settings}))
    convert(str(source), tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "back")
    for folder in ("ours", "back"):
        carried = GenerationConfig.from_pretrained(tmp_path / folder)
        assert {key: getattr(carried, key) for key in settings} == settings
