"""A FlaxGPT2 of transformers 4 becomes a model with stock GPT-2's logits."""

import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from hf_gpt_scratch.conversion.convert import convert
from support.checkpoints import assert_refused, stock_gpt2
from support.other_files import as_flax, nested, save_flax

msgpack = pytest.importorskip("msgpack", reason="pip install -e '.[convert]'")
IDS = torch.randint(100, (2, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def save(tmp_path):
    """Saves a stock GPT-2 as FlaxGPT2's `save_pretrained` did."""

    def save(arrays: dict | None = None, largest: int = 2**30, dtype=torch.float32, **settings):
        model = stock_gpt2(**settings).to(dtype)
        folder = tmp_path / "flax"
        model.config.architectures = ["FlaxGPT2LMHeadModel"]
        model.config.save_pretrained(folder)
        save_flax(folder / "flax_model.msgpack", as_flax(model) if arrays is None else arrays, largest)
        return folder, model

    return save


VARIANTS = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "in pieces": {"largest": 1000},
    "bfloat16": {"dtype": torch.bfloat16},
    "float16": {"dtype": torch.float16},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_logits_are_those_of_stock_gpt2(save, tmp_path, settings):
    folder, model = save(**settings)
    done = convert(str(folder), tmp_path / "out", tokenizer="none", prove=True)
    assert done.format == "Flax GPT-2 of transformers" and done.max_logit_difference < 1e-5
    ours = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    assert ours.dtype == settings.get("dtype", torch.float32)
    with torch.no_grad():
        expected = model.float()(IDS).logits
        torch.testing.assert_close(ours.float()(IDS).logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("largest", [2**30, 1000], ids=["", "in pieces"])
def test_the_layout_is_flaxs_own(save, monkeypatch, largest):
    serialization = pytest.importorskip("flax.serialization", reason="pip install flax")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", largest)
    folder, model = save(largest=largest)
    own = serialization.to_bytes(nested({name: array.numpy() for name, array in as_flax(model).items()}))
    assert (folder / "flax_model.msgpack").read_bytes() == own


def packed(value) -> bytes:
    return msgpack.packb(value, strict_types=True)


def array(shape, kind="float32", values=b"\0" * 4):
    return msgpack.ExtType(1, msgpack.packb((shape, kind, values)))


def deep(depth: int) -> bytes:
    return b"\x81\xa1a" * depth + b"\xc0"


CONTENTS = {
    "a list": (packed([1, 2]), "damaged or cut short"),
    "a number": (packed({"transformer": {"step": 3}}), "transformer.step is not an array"),
    "another extension type": (packed({"a": msgpack.ExtType(2, b"xy")}), "of the type 2 is no array"),
    "a shape of terabytes": (
        packed({"a": array((10**6, 10**6))}),
        r"claims the shape \[1000000, 1000000\], but has 4",
    ),
    "a negative shape": (packed({"a": array((-1, -1))}), "has the shape"),
    "a shape of words": (packed({"a": array("ab")}), "has no shape"),
    "whole numbers": (packed({"a": array((1,), "int32")}), "holds only 1 tensors"),
    "a name twice": (b"\x82\xa1a" + packed(array((1,))) + b"\xa1a" + packed(array((1,))), "occurs twice"),
    "the same name otherwise": (packed({"a": {"b": array((1,))}, "a.b": array((1,))}), "occurs twice"),
    "a number for a name": (packed({1: array((1,))}), "the name 1 is no name"),
    "maps without end": (deep(100_000), "too deep"),
    "4 billion entries": (b"\xdf\xff\xff\xff\xff\xa1a\xc0", "damaged or cut short"),
    "a list of 4 billion": (b"\x81\xa1a\xdd\xff\xff\xff\xff", "damaged or cut short"),
    "an array of 4 GB": (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01abc", "damaged or cut short"),
    "pieces of two types": (
        packed(
            {
                "a": {
                    "__msgpack_chunked_array__": True,
                    "shape": {"0": 2},
                    "chunks": {"0": array((1,)), "1": array((1,), "int32")},
                }
            }
        ),
        "not of one type",
    ),
    "pieces too few": (
        packed({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"0": array((1,))}}}),
        r"claims the shape \[2\], but has 4 bytes",
    ),
}


@pytest.mark.parametrize("content, complaint", CONTENTS.values(), ids=CONTENTS)
def test_what_is_no_model_is_refused(save, content, complaint):
    folder, _ = save()
    (folder / "flax_model.msgpack").write_bytes(content)
    assert_refused(folder, complaint)


def test_missing_package_is_named(save, monkeypatch):
    folder, _ = save()
    monkeypatch.setitem(sys.modules, "msgpack", None)
    assert_refused(folder, r"needs the package msgpack: pip install -c constraints.txt -e '\.\[convert\]'")
