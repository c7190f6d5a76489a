"""Stock GPT-2, in every spelling, becomes the same model, and comes back to the bit."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoTokenizer, GenerationConfig, GPT2LMHeadModel, PreTrainedModel

import hf_gpt_scratch
from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.conversion.hf_gpt2 import ARCHITECTURES
from hf_gpt_scratch.tokenizer import train_tokenizer
from support.checkpoints import pickled, random_weights, rewrite, set_config, sharded, stock_gpt2

INPUT_IDS = torch.randint(3, 100, (2, 16), generator=torch.Generator().manual_seed(0))


def stock(folder: Path, architecture: str = "GPT2LMHeadModel", **settings) -> PreTrainedModel:
    """A tiny stock GPT-2 with random weights, saved in `folder`."""
    model = stock_gpt2(architecture, **settings)
    model.save_pretrained(folder)
    return model


@pytest.fixture
def source(tmp_path) -> Path:
    stock(tmp_path / "stock")
    return tmp_path / "stock"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for path in folder.glob("*.safetensors") for key, tensor in load_file(path).items()}


def assert_same_tensors(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor), key


def output(model: PreTrainedModel) -> torch.Tensor:
    """The logits, or a base model's hidden states."""
    with torch.no_grad():
        return model(INPUT_IDS)[0]


@pytest.mark.parametrize("architecture, ours", ARCHITECTURES.items())
@pytest.mark.parametrize("settings", [{}, {"n_inner": 48, "activation_function": "relu", "layer_norm_epsilon": 1e-3}])
def test_every_head_has_the_same_logits_and_comes_back_bit_for_bit(tmp_path, architecture, ours, settings):
    theirs = stock(tmp_path / "stock", architecture, num_labels=3, **settings)
    convert(str(tmp_path / "stock"), tmp_path / "ours")
    converted, info = getattr(hf_gpt_scratch, ours).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(output(converted), output(theirs), atol=1e-5, rtol=0)

    export(str(tmp_path / "ours"), tmp_path / "back")
    back, expected = weights(tmp_path / "back"), weights(tmp_path / "stock")
    # A tied language model gets openai-community/gpt2's names, which MLX wants too.
    assert_same_tensors(back, without_base_prefix(expected) if architecture == "GPT2LMHeadModel" else expected)
    loaded, info = getattr(transformers, architecture).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and torch.equal(output(loaded), output(theirs))
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("stock", "back"))
    assert {key: after.get(key) for key in before} == before
    assert after["n_ctx"] == 64  # for llama.cpp


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
    assert_same_tensors(weights(tmp_path / "back"), without_base_prefix(weights(source)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_model_without_qkv_bias_is_exported_with_zeros(tmp_path, tiny_config, dtype):
    tiny_config.qkv_bias = False
    ours = random_weights(GPTScratchForCausalLM(tiny_config))
    ours.to(dtype).save_pretrained(tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "stock")
    assert {tensor.dtype for tensor in weights(tmp_path / "stock").values()} == {dtype}
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "stock", dtype=torch.float32)
    torch.testing.assert_close(output(theirs), output(ours.float()), atol=1e-5, rtol=0)


@pytest.fixture
def large_folder(tmp_path):
    """A folder that does not stay on disk after the test, as pytest's do."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("way", ["convert", "export"])
def test_conversion_holds_a_few_tensors_at_a_time(large_folder, way):
    # 202 MB in fp32. The peak is read from /proc, as ru_maxrss counts what this process held when it forked.
    stock(large_folder / "src", n_embd=1024, n_layer=4)
    if way == "export":
        convert(str(large_folder / "src"), large_folder / "ours")
    code = """
import re, sys
from functools import partial
from pathlib import Path
from importlib import import_module
module = import_module("hf_gpt_scratch.conversion." + sys.argv[1])
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
module.write_safetensors = partial(module.write_safetensors, max_shard_size="20MB")
start = peak()
getattr(module, sys.argv[1])(sys.argv[2], sys.argv[3])
print(peak() - start)
"""
    source = str(large_folder / ("src" if way == "convert" else "ours"))
    command = [sys.executable, "-c", code, way, source, str(large_folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shards = [path.stat().st_size for path in (large_folder / "out").glob("*.safetensors")]
    assert len(shards) > 5 and sum(shards) > 200e6
    assert int(done.stdout) < 0.8 * sum(shards)


def test_tokenizer_is_carried_along_both_ways(tmp_path):
    source = tmp_path / "stock"
    stock(source, vocab_size=300)  # larger than the tokenizer's, as rounded up
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


def test_tokenizer_config_is_the_same_after_both_ways(tmp_path):
    source = tmp_path / "stock"
    stock(source, vocab_size=270)
    train_tokenizer(["a few words"], 270, model_max_length=64).save_pretrained(source)
    convert(source, tmp_path / "ours")
    export(tmp_path / "ours", tmp_path / "back")
    before, after = ((f / "tokenizer_config.json").read_text() for f in (tmp_path / "ours", tmp_path / "back"))
    assert after == before == (source / "tokenizer_config.json").read_text()


def test_tokenizer_of_two_files_is_carried_along(tmp_path, shared_data):
    source = tmp_path / "stock"
    stock(source, vocab_size=50257, n_embd=8, n_layer=1)
    for name in ("vocab.json", "merges.txt"):
        (source / name).write_bytes((shared_data / "gpt2_tokenizer" / name).read_bytes())
    convert(str(source), tmp_path / "ours")
    assert AutoTokenizer.from_pretrained(tmp_path / "ours")("Hello world")["input_ids"] == [15496, 995]


def test_generation_config_is_carried_along_both_ways(source, tmp_path):
    settings = {"max_new_tokens": 7, "eos_token_id": [0, 5], "do_sample": True, "temperature": 0.7}
    (source / "generation_config.json").write_text(json.dumps({"transformers_version": "4.26.0", **settings}))
    convert(str(source), tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "back")
    for folder in ("ours", "back"):
        carried = GenerationConfig.from_pretrained(tmp_path / folder)
        assert {key: getattr(carried, key) for key in settings} == settings


def test_parameters_and_views_in_a_torch_file_are_read(source, tmp_path):
    expected = weights(source)
    state = {name: torch.nn.Parameter(tensor) for name, tensor in expected.items()}
    bias = "transformer.ln_f.bias"
    state[bias] = torch.stack([expected[bias], expected[bias]], dim=1)[:, 0]  # a view of every second number
    (source / "model.safetensors").unlink()
    torch.save(state, source / "pytorch_model.bin")
    convert(str(source), tmp_path / "ours")
    export(str(tmp_path / "ours"), tmp_path / "back")
    assert_same_tensors(weights(tmp_path / "back"), without_base_prefix(expected))
