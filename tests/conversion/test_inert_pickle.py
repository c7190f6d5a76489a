"""Pickles from anyone: their values are read, and nothing in them is ever executed, imported or built."""

import io
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hf_gpt_scratch.conversion.inert_pickle import InertPickleError, Record, load_archive, loads
from hf_gpt_scratch.utils.errors import InputError
from support.checkpoints import GPTConfig, assert_refused, make_sample

RAN = "ran-by-a-pickle"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path(RAN).exists()  # nothing was executed
    assert "antigravity" not in sys.modules and "this" not in sys.modules  # nor imported


VALUES = [
    None,
    {"a": 1, "b": [1.5, "x", (True, None), b"bytes"], 3: {}, 2.5: ()},
    {"stoi": {"\n": 0, " ": 1, "é": 2, "🙂": 3}, "itos": {0: "\n"}, "vocab_size": 4},
    [2**100, -(2**70), 255, 256, 70000, -1],
    [[], {}, (), ("a", "b"), ("a", "b", "c"), tuple("abcd")],
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read_of_every_protocol(value, protocol):
    if protocol == 0 or (protocol < 3 and "bytes" in repr(value)):
        value = {"text": "é\n", "numbers": [1, 2.5, None]}  # bytes are a call of codecs.encode there
    assert loads(pickle.dumps(value, protocol)) == value


def test_shared_values_and_values_that_hold_themselves():
    shared = ["x"]
    first, second = loads(pickle.dumps([shared, shared]))
    assert first is second
    shared.append(shared)
    loop = loads(pickle.dumps(shared))
    assert loop[1] is loop


def test_an_object_becomes_an_inert_record():
    record = loads(pickle.dumps(GPTConfig(8, 100, 2, 4, 32), 2))
    assert type(record) is Record and record.name == "support.checkpoints.GPTConfig"
    assert record.state == {"block_size": 8, "vocab_size": 100, "n_layer": 2, "n_head": 4, "n_embd": 32}


def tensors() -> dict[str, torch.Tensor]:
    base = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    return {
        **{"base": base, "transposed": base.t(), "row": base[2], "every second": base[::2], "empty": base[:0]},
        **{"half": base.half(), "bfloat16": base.bfloat16(), "mask": base > 0, "number": torch.tensor(3.5)},
        "parameter": torch.nn.Parameter(base[1:3]),
    }


def test_tensors_of_an_archive_are_those_that_torch_reads(tmp_path):
    torch.save({"model": OrderedDict(tensors()), "config": GPTConfig(1, 2, 3, 4, 5), "x": 0.5}, tmp_path / "a.pt")
    content = load_archive(tmp_path / "a.pt")
    assert content["config"].state["n_embd"] == 5 and content["x"] == 0.5
    for name, expected in tensors().items():
        found = content["model"][name]
        assert (found.dtype, found.stride()) == (expected.dtype, expected.stride()), name
        assert torch.equal(found, expected), name


class Call:
    """Pickles into a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


class WithState:
    """Restores itself by code, were it made."""

    def __setstate__(self, state):
        os.mkdir(RAN)


class WithNew:
    def __new__(cls, *arguments):
        if arguments:
            os.mkdir(RAN)
        return super().__new__(cls)

    def __getnewargs__(self):
        return ("x",)


class GetsItself:
    def __reduce_ex__(self, protocol):
        return (WithState, (), {"x": 1})


MKDIR = b"cos\nmkdir\n"
TEXT = b"X" + len(RAN).to_bytes(4, "little") + RAN.encode()
HOSTILE = {
    "a call": pickle.dumps(Call(os.mkdir, (RAN,))),
    "a call in a list": pickle.dumps([1, {"x": Call(os.mkdir, (RAN,))}]),
    "a call of a call": pickle.dumps(Call(getattr, (Call(__import__, ("os",)), "mkdir"))),
    "eval": pickle.dumps(Call(eval, (f"__import__('os').mkdir({RAN!r})",))),
    "a call named like a config": b"\x80\x02c__main__\nGPTConfig\n" + TEXT + b"\x85R.",
    "a class that restores itself": pickle.dumps(GetsItself()),
    "an object made with arguments": pickle.dumps(WithNew(), 2),
    "an object made with names": b"\x80\x04cos\nmkdir\n)}" + TEXT + TEXT + b"s\x92.",
    "INST": b"(" + b"V" + RAN.encode() + b"\n" + b"ios\nmkdir\n.",
    "OBJ": b"(" + MKDIR + b"V" + RAN.encode() + b"\no.",
    "NEWOBJ of a function with arguments": b"\x80\x02" + MKDIR + TEXT + b"\x85\x81.",
    "BUILD on a function": b"\x80\x02" + MKDIR + b"}" + TEXT + TEXT + b"sb.",
    "BUILD on a list": b"\x80\x02]}" + TEXT + TEXT + b"sb.",
    "BUILD on a call": b"\x80\x02" + MKDIR + TEXT + b"\x85R}b.",
    "BUILD with a state that is no mapping": b"\x80\x02c__main__\nA\n)\x81" + TEXT + b"b.",
    "BUILD with names that are no texts": b"\x80\x02c__main__\nA\n)\x81}K\x01K\x01sb.",
    "a mapping with calls for keys": b"\x80\x02}" + MKDIR + b"K\x01s.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"\x80\x02" + TEXT + b"Q.",
    "a persistent id of protocol 0": b"P" + RAN.encode() + b"\n.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a set": b"\x80\x04\x8f.",
    "a module to import": b"\x80\x02cantigravity\nfly\n)R.",
    "a class to import, by names from the stack": b"\x80\x04\x8c\x04this\x94\x8c\x01s\x94\x93)R.",
    "a memo that is not there": b"\x80\x02h\x07.",
    "a tuple of what is not there": b"\x80\x02\x87.",
    "an ordered dict with arguments": pickle.dumps(Call(OrderedDict, ([("a", 1)],))),
    "a tensor of no storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))tR.",
    "a name that is written out forever": b"\x80\x04\x8c\x01a]" + b"2\x86" * 40 + b"\x93.",
    "keys whose hash takes forever": b"\x80\x02}" + b")" + b"2\x86" * 40 + b"K\x01s.",
}

DAMAGED = {
    "an end without a value": b"\x80\x02.",
    "no end": b"\x80\x02K\x01",
    "a mark without an end": b"\x80\x02(.",
    "nothing": b"",
    "no pickle": b"hello",
}


@pytest.mark.parametrize("content", [*HOSTILE.values(), *DAMAGED.values()], ids=[*HOSTILE, *DAMAGED])
def test_a_hostile_pickle_is_refused(content):
    with pytest.raises(InertPickleError):
        loads(content)


def test_these_pickles_would_have_run(tmp_path):
    for name in ("a call", "a call in a list", "eval", "INST", "OBJ", "a class that restores itself"):
        pickle.loads(HOSTILE[name])
        Path(RAN).rmdir()


def replaced(path: Path, change) -> None:
    """The archive with another pickle in it."""
    entries = {item.filename: zipfile.ZipFile(path).read(item) for item in zipfile.ZipFile(path).infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, change(content) if name.endswith("/data.pkl") else content)


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_in_a_checkpoint_is_refused(tmp_path, content):
    """It is made first, and dropped before all else is read."""
    source = make_sample("build-nanogpt", tmp_path / "in").source
    inner = content.removesuffix(b".")
    inner = inner[2:] if inner[:1] == b"\x80" else inner
    inner = inner[9:] if inner[:1] == b"\x95" else inner
    replaced(source, lambda whole: whole[:2] + inner + b"0" + whole[2:])
    assert_refused(source, "more than tensors|damaged")


def test_an_object_in_the_place_of_a_tensor_is_refused(tmp_path):
    source = make_sample("build-nanogpt", tmp_path / "in").source
    content = torch.load(source, weights_only=False)
    content["model"]["transformer.wte.weight"] = GPTConfig(1, 2, 3, 4, 5)
    torch.save(content, source)
    assert_refused(source, "not a mapping from names to tensors")


@pytest.mark.parametrize(
    "kind",
    [SimpleNamespace(n_head=2), OrderedDict, GPTConfig, io.BytesIO(b"x")],
    ids=["namespace", "OrderedDict", "class", "BytesIO"],
)
def test_other_objects_for_a_configuration_are_refused(tmp_path, kind):
    """A class by itself, or an object that is made by a call: not its attributes alone."""
    source = make_sample("build-nanogpt", tmp_path / "in").source
    content = torch.load(source, weights_only=False)
    torch.save({**content, "config": kind}, source)
    with pytest.raises(InputError):
        from hf_gpt_scratch.conversion.formats import open_source

        open_source(source)


def storage(path: Path, shape: bytes) -> None:
    replaced(path, lambda whole: whole.replace(b"M\x04\x01K\x08\x86", shape, 1))  # that of the embeddings


@pytest.mark.parametrize(
    "shape",
    [
        b"M\x04\x02K\x08\x86",
        b"J\xff\xff\xff\x7fK\x08\x86",
        b"J\xff\xff\xff\xffK\x08\x86",
        b"K\x08\x85",
        b"K\x08NN\x87",
    ],
    ids=["twice as long", "2**31 - 1", "negative", "flat", "of nothing"],
)
def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path, shape):
    source = make_sample("build-nanogpt", tmp_path / "in").source
    before = source.read_bytes()
    storage(source, shape)
    assert source.read_bytes() != before
    assert_refused(source, "more than tensors|has shape|lacks|damaged")
