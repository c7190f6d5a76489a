"""A GGUF file of llama.cpp's gpt2 becomes a model with the same logits, and its tokenizer comes along."""

import struct
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.conversion.convert import convert
from hf_gpt_scratch.conversion.gguf import PROBE, export_gguf
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.tokenizer import gpt2_tokenizer, train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import assert_refused, random_weights, stock_gpt2
from support.other_files import as_gguf, save_gguf

gguf = pytest.importorskip("gguf", reason="pip install -e '.[convert]'")
SIZES = {"vocab_size": 300, "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4}
TEXT = "It's a story of 1908: they'd written 12 letters, and \"nobody\" answered.\n\n  Not one of them did!\n"
IDS = torch.arange(48)[None] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT] * 5, 300)


@pytest.fixture
def model(tokenizer):
    return stock_gpt2(**SIZES | {"vocab_size": len(tokenizer)})


@pytest.fixture
def save(tmp_path, model, tokenizer):
    """Writes the model as GGUF, with other tensors or settings where they are given."""

    def save(tensors=None, tokenizer=tokenizer, dtype="F32", **settings):
        save_gguf(tmp_path / "model.gguf", tensors or as_gguf(model), model.config, tokenizer, dtype, **settings)
        return tmp_path / "model.gguf"

    return save


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("dtype, tolerance", [("F32", 1e-5), ("F16", 0.05), ("BF16", 0.3), ("Q8_0", 0.3)])
def test_logits_are_those_of_the_file(save, model, tmp_path, dtype, tolerance):
    path = save(dtype=dtype)
    done = convert(str(path), tmp_path / "out", prove=True)
    assert (done.format, done.max_logit_difference < 1e-4) == ("GGUF", True)
    ours = AutoModelForCausalLM.from_pretrained(done.folder)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", n_positions=48, dtype=torch.float32
    )
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-4, rtol=0)  # transformers' own reader
    assert ours.dtype == torch.float32 and ours.config.layer_norm_epsilon == 1e-5
    assert 0 <= (logits(ours) - logits(model)).abs().max() < tolerance
    quantised = "9 of the 28 tensors" if dtype == "Q8_0" else ""
    assert [quantised in note and "(Q8_0)" in note for note in done.notes] == [True] * bool(quantised)


@pytest.mark.parametrize("settings", [{}, {"tie_word_embeddings": False, "n_inner": 64}, {"spare": 7}])
def test_the_way_back_from_an_export_is_exact(tokenizer, tmp_path, settings):
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    spare = settings.pop("spare", 0) if "spare" in settings else 0
    config = GPTScratchConfig(**{**SIZES, "vocab_size": len(tokenizer) + spare, **special, **settings})
    random_weights(GPTScratchForCausalLM(config)).save_pretrained(tmp_path / "ours")
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(tmp_path / "ours")
    exported = export_gguf(str(tmp_path / "ours"), tmp_path / "gguf")
    done = convert(str(exported.path.parent), tmp_path / "back", prove=True)  # the folder or the file
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "back"))
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    first, second = (GPTScratchConfig.from_pretrained(tmp_path / name) for name in ("ours", "back"))
    names = [*SIZES, *special, "layer_norm_epsilon", "tie_word_embeddings", "activation_function", "qkv_bias"]
    assert [getattr(first, name) for name in names] == [getattr(second, name) for name in names]
    assert done.notes == ()
    chat = [{"role": "user", "content": "Do it."}]
    loaded = AutoTokenizer.from_pretrained(done.folder)
    expected = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    assert loaded.apply_chat_template(chat, add_generation_prompt=True) == expected


@pytest.mark.parametrize("which", ["trained", pytest.param("gpt2", marks=pytest.mark.e2e)])
def test_tokenizer_has_the_same_ids(save, model, tokenizer, tmp_path, shared_data, which):
    if which == "gpt2":
        files = shared_data / "gpt2_tokenizer"
        tokenizer = gpt2_tokenizer(files / "vocab.json", files / "merges.txt")
        model = stock_gpt2(**SIZES | {"vocab_size": len(tokenizer), "n_embd": 8})
        save_gguf(tmp_path / "model.gguf", as_gguf(model), model.config, tokenizer)
        out = convert(str(tmp_path / "model.gguf"), tmp_path / "out").folder
    else:
        out = convert(str(save()), tmp_path / "out").folder
    loaded = AutoTokenizer.from_pretrained(out)
    lines = (shared_data / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()[:200]
    for text in [TEXT, PROBE, *lines]:
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"], text
        assert loaded.decode(loaded(text)["input_ids"]) == text
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert loaded.model_max_length == 48
    config = GPTScratchConfig.from_pretrained(out)
    assert config.eos_token_id == tokenizer.eos_token_id


def test_tokens_put_around_a_text_and_added_ones_come_along(save, tokenizer, tmp_path):
    kinds = [3, 3] + [1] * (len(tokenizer) - 2)
    kinds[270] = 4
    more = {"tokenizer__ggml__add_bos_token": True, "tokenizer__ggml__bos_token_id": 0}
    path = save(tokenizer__ggml__token_type=kinds, **more)
    loaded = AutoTokenizer.from_pretrained(convert(str(path), tmp_path / "out").folder)
    word = loaded.convert_ids_to_tokens(270)
    ids = loaded("Hello")["input_ids"]
    assert ids[0] == 0 and ids[1:] == tokenizer("Hello")["input_ids"]
    assert 270 in loaded(f"x{word}x")["input_ids"]


def test_a_file_without_tokenizer_takes_another(save, tokenizer, tmp_path):
    path = save(tokenizer=None)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    out = convert(str(path), tmp_path / "out", tokenizer=str(tmp_path / "tokenizer")).folder
    assert AutoTokenizer.from_pretrained(out)(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]


def test_command_says_what_was_quantised(save, tmp_path, capsys):
    assert main(["convert", str(save(dtype="Q8_0")), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "(GGUF)" in printed.out and "note: 9 of the 28 tensors in" in printed.err


def with_head(model):
    return {**as_gguf(model), "output.weight": as_gguf(model)["token_embd.weight"]}


def test_an_output_matrix_equal_to_the_embeddings_is_tied(save, model, tmp_path):
    out = convert(str(save(with_head(model))), tmp_path / "out", prove=True).folder
    assert GPTScratchConfig.from_pretrained(out).tie_word_embeddings
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(out)), logits(model), atol=1e-4, rtol=0)


REFUSALS = {
    "another architecture": ({"general__architecture": "llama"}, "architecture 'llama'; only gpt2"),
    "part of a split": ({"split__count": 3}, "llama-gguf-split --merge"),
    "quantised otherwise": ({"dtype": "Q4_0"}, r"type Q4_0, but only .*llama-quantize --allow-requantize"),
    "shared keys": ({"gpt2__attention__head_count_kv": 2}, "4 attention heads that share 2"),
    "no heads": ({"gpt2__attention__head_count": None}, "head_count must be a whole number above 0, not None"),
    "too many heads": ({"gpt2__attention__head_count": 5}, "does not describe a GPT"),
    "a list of heads": ({"gpt2__attention__head_count": [4, 4]}, "must be a whole number"),
    "a negative epsilon": ({"gpt2__attention__layer_norm_epsilon": -1.0}, "epsilon must be a number above 0"),
    "another context": ({"gpt2__context_length": 47}, r"position_embd.weight has shape \[48, 32\] instead of \[47"),
    "a million blocks": ({"gpt2__block_count": 10**6}, "claims to have 1000000 blocks"),
    "another tokenizer": ({"tokenizer__ggml__model": "llama"}, "is 'llama' and splits .* pass the one .*--tokenizer"),
    "another split": ({"tokenizer__ggml__pre": "qwen2"}, "splits text as 'qwen2'"),
    "no merges": ({"tokenizer__ggml__merges": None}, "holds no tokenizer that can be read"),
    "merges of nothing": ({"tokenizer__ggml__merges": ["x yz"]}, "holds no tokenizer that can be read"),
    "types too few": ({"tokenizer__ggml__token_type": [1, 2]}, "300 tokens, but 2 types|tokens, but 2 types"),
    "a token twice": ({"tokenizer__ggml__tokens": ["a", "a"], "tokenizer__ggml__token_type": [1, 1]}, "occurs twice"),
}


@pytest.mark.parametrize("changes, complaint", REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_gpt2_is_refused_by_name(save, changes, complaint):
    assert_refused(save(**changes), complaint)


def put(path, at: int, kind: str, value: int) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, at, value)
    path.write_bytes(content)


def list_length(path, kind: str, value: int) -> None:
    """Another length, or kind of items, of the list of tokens."""
    put(path, path.read_bytes().index(b"ggml.tokens") + 11 + (4 if kind == "<I" else 8), kind, value)


LIES = {
    "settings without end": (lambda path: put(path, 16, "<Q", 2**63), "claims more than the file holds"),
    "tensors without end": (lambda path: put(path, 8, "<Q", 2**63), "claims more than the file holds"),
    "name longer than the file": (lambda path: put(path, 24, "<Q", 2**62), "goes beyond its end"),
    "list without end": (lambda path: list_length(path, "<Q", 2**60), "longer than those of any model"),
    "list longer than the file": (lambda path: list_length(path, "<Q", 2**21), "goes beyond its end"),
    "lists of lists": (lambda path: list_length(path, "<I", 9), "longer than those of any model"),
    "another version": (lambda path: put(path, 4, "<I", 1), "its version is 1"),
    "many dimensions": (
        lambda path: put(path, path.read_bytes().index(b"token_embd.weight") + 17, "<I", 2**30),
        "has 1073741824 dimensions",
    ),
    "a tensor of exabytes": (
        lambda path: put(path, path.read_bytes().index(b"token_embd.weight") + 21, "<Q", 2**60),
        "damaged or cut short",
    ),
    "two tensors in one place": (
        lambda path: put(path, path.read_bytes().index(b"position_embd.weight") + 20 + 4 + 16 + 4, "<Q", 0),
        "overlap each other",
    ),
}


@pytest.mark.parametrize("damage, complaint", LIES.values(), ids=LIES)
def test_a_header_that_lies_is_refused_at_once(save, damage, complaint):
    path = save()
    damage(path)
    assert_refused(path, complaint)


def test_several_files_in_a_folder_are_asked_for(save, tmp_path):
    first = save()
    (tmp_path / "other.gguf").write_bytes(first.read_bytes())
    with pytest.raises(InputError, match="several files of weights, .*: model.gguf, other.gguf. Say which"):
        convert(str(tmp_path), tmp_path / "out")
    assert convert(str(tmp_path), tmp_path / "out", file="other.gguf").format == "GGUF"


def test_missing_package_is_named(save, tmp_path, monkeypatch):
    path = save()
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"pip install -c constraints.txt -e '\.\[convert\]'"):
        convert(str(path), tmp_path / "out")
