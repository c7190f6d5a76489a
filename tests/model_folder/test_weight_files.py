"""An index names files beside itself alone: no path, and no link that leads elsewhere but in the Hub's cache."""

import json
import re
import shutil
from pathlib import Path

import pytest

from hf_gpt_scratch import load
from hf_gpt_scratch.model_folder.weight_files import shards_of
from hf_gpt_scratch.utils.errors import InputError
from support.models import save_model

SHARD, INDEX = "model-00001-of-00001.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A model whose weights are listed by an index."""
    folder = save_model(tmp_path_factory.mktemp("models") / "sound")
    (folder / "model.safetensors").rename(folder / SHARD)
    list_shards(folder, SHARD)
    return folder


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "model")


def list_shards(folder: Path, name: str, index: str = INDEX) -> None:
    from safetensors import safe_open

    with safe_open(next(folder.glob("*.safetensors")), "pt") as file:
        names = list(file.keys())
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, name)}))


def test_shards_beside_the_index_load(folder):
    assert shards_of(folder / INDEX) == [SHARD]
    load(folder)


@pytest.mark.parametrize("path", ["../outside.safetensors", "/outside.safetensors", "inner/../../outside.safetensors"])
def test_a_path_is_refused(folder, path):
    shutil.copy(folder / SHARD, folder.parent / "outside.safetensors")
    list_shards(folder, path)
    with pytest.raises(InputError, match=re.escape(f"points outside its folder, to {path}")):
        shards_of(folder / INDEX)
    with pytest.raises(InputError, match="points outside its folder"):
        load(folder)


def test_a_path_in_the_index_of_pickles_is_refused(folder):
    """transformers takes them where there are no others."""
    list_shards(folder, "../outside.bin", "pytorch_model.bin.index.json")
    for name in (SHARD, INDEX):
        (folder / name).unlink()
    with pytest.raises(InputError, match="points outside its folder, to ../outside.bin"):
        load(folder)


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder / SHARD).rename(folder.parent / "outside.safetensors")
    (folder / SHARD).symlink_to("../outside.safetensors")
    with pytest.raises(InputError, match="is a link that leads out of its folder"):
        load(folder)


def test_links_of_the_hubs_cache_are_followed(folder):
    """There every file is a link into one folder of contents."""
    blobs, snapshot = folder.parent / "blobs", folder.parent / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert shards_of(snapshot / INDEX) == [SHARD]
    load(snapshot)


def test_a_link_to_the_folder_and_one_within_it_are_followed(folder):
    (folder / "inner").mkdir()
    (folder / SHARD).rename(folder / "inner" / SHARD)
    (folder / SHARD).symlink_to(f"inner/{SHARD}")
    (folder.parent / "linked").symlink_to(folder.name)
    load(folder.parent / "linked")


def test_a_vocabulary_outside_of_the_folder_is_refused(folder):
    """transformers would read one of these, of the newest version that is not newer than its own."""
    shutil.copy(folder / "tokenizer.json", folder.parent / "tokenizer.4.0.0.json")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for names in (["../tokenizer.4.0.0.json"], "../tokenizer.4.0.0.json", [4]):
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"fast_tokenizer_files": names}))
        with pytest.raises(InputError, match="must be names of files beside it"):
            load(folder)
    shutil.copy(folder / "tokenizer.json", folder / "tokenizer.4.0.0.json")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings | {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]})
    )
    load(folder)
