"""Repositories that hold more than one model: looked at first, and only what is converted is downloaded."""

import shutil
from pathlib import Path

import pytest
import torch

from support.checkpoints import TINY, as_nanogpt, pickled, sharded, stock_gpt2
from support.stand_in import Repo

pytestmark = pytest.mark.hub


def publish(hub, name: str, folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.repos[name] = Repo(private=False)
    hub.repos[name].commit("main", files)


def downloaded(hub, name: str) -> set[str]:
    """The names of the files that were asked for since the last call."""
    begins = f"GET /{name}/resolve/"
    asked = {request.removeprefix(begins).partition("/")[2] for request in hub.requests if request.startswith(begins)}
    hub.requests.clear()
    return asked


def test_of_several_sizes_the_one_named_is_downloaded(hub, elsewhere, tmp_path):
    source = tmp_path / "sizes"
    stock_gpt2(**TINY).save_pretrained(source / "small")
    stock_gpt2(**{**TINY, "n_embd": 16}).save_pretrained(source / "large")
    sharded(source / "large", "safetensors")
    torch.save(as_nanogpt(stock_gpt2(**TINY)), source / "ckpt.pt")
    (source / "README.md").write_text("three models")
    publish(hub, "user/sizes", source)
    refused = elsewhere("convert", "user/sizes", "out", "--tokenizer", "none")
    assert refused.returncode == 1 and "--file NAME" in refused.stderr
    named = "ckpt.pt, large/model.safetensors.index.json, small/model.safetensors."
    assert named in refused.stderr and not downloaded(hub, "user/sizes")
    wrong = elsewhere("convert", "user/sizes", "out", "--file", "medium.pt")
    assert wrong.returncode == 1 and "no weights named medium.pt; it has: ckpt.pt" in wrong.stderr
    assert not downloaded(hub, "user/sizes")

    for name, files in {
        "large/model.safetensors.index.json": {path.name for path in (source / "large").glob("model*")},
        "small/model.safetensors": {"model.safetensors"},
    }.items():
        done = elsewhere("convert", "user/sizes", Path(name).parent.name, "--file", name)
        assert done.returncode == 0, done.stderr
        assert "the model has none" in done.stderr  # the tokenizer
        folder = name.partition("/")[0]
        same = f"{folder}/generation_config.json"  # in both folders, and so downloaded once
        assert downloaded(hub, "user/sizes") | {same} == {f"{folder}/{one}" for one in files | {"config.json"}} | {
            same
        }
        assert (tmp_path / folder / "model.safetensors").is_file()
    assert elsewhere("convert", "user/sizes", "nano", "--file", "ckpt.pt", "--tokenizer", "none").returncode == 0
    assert downloaded(hub, "user/sizes") == {"ckpt.pt"}


def test_of_several_sets_of_weights_only_that_of_transformers_is_downloaded(hub, elsewhere, tmp_path):
    source = tmp_path / "sets"
    stock_gpt2(**TINY).save_pretrained(source)
    for kind in ("safetensors", "bin"):
        shutil.copytree(source, tmp_path / kind)
        sharded(tmp_path / kind, kind)
    shutil.copytree(source, tmp_path / "whole")
    pickled(tmp_path / "whole")
    for folder in ("safetensors", "bin", "whole"):
        shutil.copytree(tmp_path / folder, source, dirs_exist_ok=True)
    publish(hub, "user/sets", source)
    done = elsewhere("convert", "user/sets", "out", "--tokenizer", "none")
    assert done.returncode == 0, done.stderr
    assert downloaded(hub, "user/sets") == {"config.json", "generation_config.json", "model.safetensors"}


def test_the_only_file_of_a_repository_is_converted(hub, elsewhere, tmp_path):
    (tmp_path / "one").mkdir()
    torch.save(as_nanogpt(stock_gpt2(**TINY)), tmp_path / "one" / "mine.pt")
    publish(hub, "user/one", tmp_path / "one")
    done = elsewhere("convert", "user/one", "out", "--tokenizer", "none")
    assert done.returncode == 0 and "nanoGPT" in done.stdout, done.stderr
