"""Files of every format that are damaged, or made to do harm: each is refused in one sentence, nothing is written."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from support.checkpoints import (
    SAMPLES,
    Sample,
    assert_refused,
    make_sample,
)


@pytest.fixture
def sample(request, tmp_path) -> Sample:
    return make_sample(request.param, tmp_path / "checkpoint")


def each(*names: str):
    """The test once for each of these formats, or of all."""
    return pytest.mark.parametrize("sample", names or SAMPLES, indirect=True)


def each_damage(damages: dict):
    return pytest.mark.parametrize("damage, complaint", damages.values(), ids=damages)


SAFETENSORS = ("hf-gpt2", "hf-gpt2 sharded", "ours to hf-gpt2", "ours to gguf")
ARCHIVES = ("hf-gpt2 bin", "hf-gpt2 sharded bin", "nanogpt", "llms-from-scratch", "ours, bin, to hf-gpt2")


def spoiled(value: float):
    def change(tensors: dict, sample: Sample) -> None:
        tensors[sample.matrix].view(-1)[3] = value

    return change


def reshaped(change: Callable):
    return lambda tensors, sample: tensors.update({sample.matrix: change(tensors[sample.matrix]).contiguous()})


NOT_FINITE = "NaN or infinite values|logits differ from the source's by nan"
OTHER_SHAPE = r"has shape \[|must have the shape \[|has no matrix"
TENSORS = {
    "not a number": (spoiled(torch.nan), NOT_FINITE),
    "infinite": (spoiled(-torch.inf), NOT_FINITE),
    "transposed": (reshaped(lambda tensor: tensor.transpose(-1, -2)), OTHER_SHAPE),
    "flat": (reshaped(torch.flatten), OTHER_SHAPE),
    "empty": (reshaped(lambda tensor: tensor[:0]), OTHER_SHAPE),
    "too long": (reshaped(lambda tensor: torch.cat([tensor, tensor], -1)), OTHER_SHAPE),
    "whole numbers": (reshaped(lambda tensor: tensor.to(torch.int32)), "type|dense"),
    "missing": (lambda tensors, sample: tensors.pop(sample.matrix), "missing"),
    "one too many": (lambda tensors, sample: tensors.update(extra=torch.ones(2)), "unknown extra"),
    "twice": (
        lambda tensors, sample: tensors.update({sample.twice or "again": tensors[sample.matrix].clone()}),
        "same weight|unknown again",
    ),
}


@each()
@each_damage(TENSORS)
def test_damaged_tensor_is_refused(sample, damage, complaint):
    sample.rewrite(lambda tensors: damage(tensors, sample))
    assert_refused(sample.source, complaint, sample.way)


CONTENTS = {
    "cut short": lambda content: content[: len(content) * 6 // 10],
    "empty": lambda content: b"",
    "of another kind": lambda content: b"It was a dark and stormy night.\n" * 30,
    "a list": lambda content: b"[]",
}


@each()
@pytest.mark.parametrize("change", CONTENTS.values(), ids=CONTENTS)
def test_each_file_is_refused_where_it_is_damaged(sample, change):
    folder = sample.source if sample.source.is_dir() else sample.source.parent
    for name in sample.files:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(change(whole))
        assert_refused(sample.source, str(folder), sample.way)
        (folder / name).write_bytes(whole)


def header(change: Callable[[dict, str], dict | str | None]):
    """A safetensors file with another header, given as JSON or as its text."""

    def damage(file: Path, matrix: str) -> None:
        content = file.read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        entries = json.loads(content[8:end])
        changed = change(entries, matrix) or entries
        text = (changed if isinstance(changed, str) else json.dumps(changed)).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + content[end:])

    return damage


def length(claimed: int):
    return lambda file, matrix: file.write_bytes(struct.pack("<Q", claimed) + file.read_bytes()[8:])


def entry(**changes):
    return header(lambda entries, matrix: entries[matrix].update(changes))


def another_first(entries: dict, matrix: str) -> str:
    """The matrix twice, at first transposed: what it is depends on who reads it."""
    first = {**entries[matrix], "shape": entries[matrix]["shape"][::-1]}
    return json.dumps({"again": first, **entries}).replace('"again"', json.dumps(matrix), 1)


def same_place(entries: dict, matrix: str) -> None:
    entries["extra"] = dict(entries[matrix])


HEADERS = {
    "header of 10 GB": (length(10 * 2**30), "damaged"),
    "header of 2**64 bytes": (length(2**64 - 1), "damaged"),
    "header longer than the file": (length(2**20), "damaged"),
    "no header": (length(0), "damaged"),
    "shape that does not multiply": (entry(shape=[8, 33]), "damaged"),
    "shape beyond 64 bits": (entry(shape=[2**62, 2**62]), "damaged"),
    "negative shape": (entry(shape=[-8, -32]), "damaged"),
    "unknown type": (entry(dtype="F7"), "damaged"),
    "10 GB of data": (entry(data_offsets=[0, 10 * 2**30]), "damaged"),
    "data before the file": (entry(data_offsets=[-8, 1016]), "damaged"),
    "two tensors in one place": (header(same_place), "damaged"),
    "one key twice": (header(another_first), "twice"),
    "no place": (header(lambda entries, matrix: entries[matrix].pop("data_offsets") and None), "damaged"),
    "deep": (header(lambda entries, matrix: "[" * 100_000), "damaged"),
}


@each(*SAFETENSORS)
@each_damage(HEADERS)
def test_safetensors_with_a_false_header_are_refused(sample, damage, complaint):
    damage(sample.source / sample.files[0], sample.matrix)
    assert_refused(sample.source, complaint, sample.way)


class Code:
    """Pickles into a call that makes the folder `ran`."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def weights_file(sample: Sample) -> Path:
    return sample.source if sample.source.is_file() else sample.source / sample.files[0]


def with_code(content: dict) -> dict:
    """It stands where a tensor is."""
    if "model" in content:
        return {**content, "model": with_code(content["model"])}
    return {**content, next(iter(content)): Code()}


@each(*ARCHIVES, *SAFETENSORS)
@pytest.mark.parametrize("wrap", [lambda content: Code(), with_code], ids=["bare", "as a tensor"])
@pytest.mark.parametrize("new_format", [True, False], ids=["", "as before torch 1.6"])
def test_code_in_a_pickle_is_not_run(sample, tmp_path, monkeypatch, wrap, new_format):
    file = weights_file(sample)
    monkeypatch.chdir(tmp_path)
    is_pickle = file.suffix != ".safetensors"
    content = torch.load(file, weights_only=True) if is_pickle else safetensors.torch.load(file.read_bytes())
    torch.save(wrap(content), file, _use_new_zipfile_serialization=new_format)
    assert_refused(sample.source, "more than tensors|is damaged", sample.way)
    assert not Path("ran").exists()
    torch.load(io.BytesIO(file.read_bytes()), weights_only=False)
    assert Path("ran").exists()  # it would have run


def packed(file: Path) -> None:
    """A bomb: of the same records, the tensors' 100 MB of zeros, and so much smaller than what it holds."""
    content = {record.filename: zipfile.ZipFile(file).read(record) for record in zipfile.ZipFile(file).infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, record in content.items():
            archive.writestr(name, bytes(10**8) if name.endswith("/data/0") else record)
    assert file.stat().st_size < 10**6


def claim(file: Path) -> None:
    """The first record is one of 4 GB, says the archive's table of contents."""
    content = bytearray(file.read_bytes())
    struct.pack_into("<II", content, content.index(b"PK\x01\x02") + 20, 2**32 - 16, 2**32 - 16)
    file.write_bytes(content)


def huge(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    tensors = content.get("model", content)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensors[name] = torch.zeros(1).expand(10**6, 10**6)  # four terabytes, says its shape
    torch.save(content, file)


ARCHIVE_DAMAGES = {
    "zip bomb": (packed, "is compressed"),
    "record of 4 GB": (claim, "damaged"),
    "tensor of 4 TB": (huge, "but holds less"),
}


@each(*ARCHIVES)
@each_damage(ARCHIVE_DAMAGES)
def test_archive_that_claims_more_than_it_is_is_refused(sample, damage, complaint):
    damage(weights_file(sample))
    assert_refused(sample.source, complaint, sample.way)


def mapped(change: Callable[[dict], object]):
    """A folder whose index maps names to shards in another way."""

    def damage(folder: Path, index: str) -> None:
        content = json.loads((folder / index).read_text())
        changed = change(content["weight_map"])
        (folder / index).write_text(changed if isinstance(changed, str) else json.dumps(content))

    return damage


def outside(folder: Path, index: str, to: str = "../{name}") -> None:
    """The shard is there, and it is whole, but in another folder."""
    name = next(iter(json.loads((folder / index).read_text())["weight_map"].values()))
    (folder / name).rename(folder.parent / name)
    target = to.format(name=name, parent=folder.parent)
    (folder / index).write_text((folder / index).read_text().replace(name, target))


def in_both(folder: Path, index: str) -> None:
    first, second = sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
    (folder / second).write_bytes((folder / first).read_bytes())


def cut_second(folder: Path, index: str) -> None:
    file = sorted(folder.glob("*-00002-of-00002.*"))[0]
    file.write_bytes(file.read_bytes()[:-100])


INDEXES = {
    "to the folder above": (outside, "points outside its folder"),
    "to an absolute path": (lambda f, i: outside(f, i, "{parent}/{name}"), "points outside its folder"),
    "through a folder": (lambda f, i: outside(f, i, "./../{name}"), "points outside its folder"),
    "to nothing": (lambda f, i: sorted(f.glob("*-00002-of-00002.*"))[0].unlink(), "lacks the shard"),
    "to a folder": (mapped(lambda names: names.update(x="..")), "points outside|lacks the shard"),
    "to a number": (mapped(lambda names: names.update(x=3)), "index|points outside"),
    "to a number alone": (mapped(lambda names: json.dumps({"weight_map": {"x": 3}})), "index|points outside"),
    "to a list": (mapped(lambda names: names.update(x=[])), "not an index"),
    "to a name with a zero": (mapped(lambda names: names.update(x="a\0b")), "index|lacks|points"),
    "to no shard": (mapped(lambda names: json.dumps({"weight_map": {}})), "holds only 0 tensors"),
    "to a shard cut short": (cut_second, "damaged"),
    "to shards that share names": (in_both, "is in both"),
    "that names one weight twice": (
        mapped(lambda names: json.dumps({"weight_map": {"again": "x", **names}}).replace("again", next(iter(names)))),
        "twice",
    ),
}


@each("hf-gpt2 sharded", "hf-gpt2 sharded bin")
@each_damage(INDEXES)
def test_index_that_misleads_is_refused(sample, damage, complaint):
    damage(sample.source, next(file for file in sample.files if file.endswith(".index.json")))
    assert_refused(sample.source, complaint, sample.way)
