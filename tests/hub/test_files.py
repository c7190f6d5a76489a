"""Which files of a folder would be uploaded, what else may lie there, and what must not stand in them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.utils import filter_repo_objects

from hf_gpt_scratch.hub.files import check_files, uploadable
from hf_gpt_scratch.hub.findings import CheckFailed
from hf_gpt_scratch.hub.model_card import is_replaceable
from hf_gpt_scratch.model_folder import contents
from hf_gpt_scratch.model_folder.contents import CODE_FILES, ModelFolder
from support.models import save_model

CODE = CODE_FILES[:2]  # the third is part of a folder where the second imports it
AUTO_MAP = {"AutoConfig": f"{CODE[0][:-3]}.GPTScratchConfig", "AutoModel": f"{CODE[1][:-3]}.GPTScratchModel"}


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "somewhere" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"auto_map": AUTO_MAP}))
    for name in (*CODE, "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


def put(folder: Path, name: str, content: str = "") -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content)


def test_what_our_scripts_leave_stays_and_is_no_fault(folder):
    before = uploadable(folder)
    for name in (
        "metrics.json",
        "conversion.json",
        "results/spam.json",
        "samples.jsonl",
        "judge.1a2b3c4d.partial.jsonl",
        "checkpoint-5/optimizer.pt",
    ):
        put(folder, name)
    assert uploadable(folder) == before
    stay = "checkpoint-5/, conversion.json, judge.1a2b3c4d.partial.jsonl, metrics.json, results/, samples.jsonl"
    assert (
        check_files(ModelFolder.read(folder))
        == f"5 to upload, besides the model card; not part of the model, so not uploaded: {stay}"
    )


@pytest.mark.parametrize(
    "name", ["notes.txt", "evil.py", "plots/data.csv", "results/x.png", "data/train.csv", ".git/x"]
)
def test_what_is_no_part_of_a_model_stays_here_and_is_named(folder, name):
    before = uploadable(folder)
    put(folder, name)
    assert uploadable(folder) == before
    shown = name if name.startswith("plots") or "/" not in name else f"{name.partition('/')[0]}/"
    assert (
        check_files(ModelFolder.read(folder))
        == f"5 to upload, besides the model card; not part of the model, so not uploaded: {shown}"
    )


def test_many_that_stay_are_counted(folder):
    for number in range(12):
        put(folder, f"{number:02}.txt")
    assert check_files(ModelFolder.read(folder)).endswith("08.txt, 09.txt and 2 more")


def test_a_link_among_what_would_be_uploaded_is_refused(folder, tmp_path):
    (tmp_path / "private.png").touch()
    (folder / "link.txt").symlink_to(tmp_path / "private.png")
    assert (
        check_files(ModelFolder.read(folder))
        == "5 to upload, besides the model card; not part of the model, so not uploaded: link.txt"
    )
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "me.png").touch()
    (folder / "plots").symlink_to(tmp_path / "pictures")
    with pytest.raises(CheckFailed, match="plots/me.png: a symbolic link"):
        check_files(ModelFolder.read(folder))
    (folder / "plots").unlink()
    (folder / "README.md").symlink_to(tmp_path / "private.png")
    with pytest.raises(CheckFailed, match="README.md: a symbolic link"):
        check_files(ModelFolder.read(folder))


@pytest.mark.parametrize("reference", ["user/repo--modeling.Model", "../../x.Model", "*.Model", ["a.B", None], None])
def test_code_that_is_not_beside_the_model_is_named(folder, reference):
    put(folder, "config.json", json.dumps({"auto_map": AUTO_MAP | {"AutoModel": reference}}))
    with pytest.raises(CheckFailed, match="auto_map in config.json names code that is not beside it: AutoModel"):
        check_files(ModelFolder.read(folder))


def test_code_that_imports_from_elsewhere_takes_no_file_from_there(folder, tmp_path):
    (tmp_path / "mine.py").write_text("x = 1")
    for path in ("/../../mine", f"{tmp_path}/mine", "*"):
        (folder / CODE[1]).write_text(f"from .{path} import x\n")
        assert {file.parent for file in ModelFolder.read(folder).files()} == {folder}
    (folder / CODE[1]).write_bytes(b"# caf\xe9\n")
    with pytest.raises(CheckFailed, match=f"{CODE[1]} is not valid Python"):
        check_files(ModelFolder.read(folder))


def test_uploads_and_downloads_take_the_same_files_of_a_model(tmp_path, monkeypatch):
    folder = save_model(tmp_path / "model", chat="{{ messages }}")
    for name in ("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"):
        put(folder, name, "{}")
    uploaded = {path.name for path in uploadable(folder)}
    assert {"chat_template.jinja", "reference_logits.json", "merges.txt"} <= uploaded

    def snapshot_download(name, **patterns):
        downloaded.update(filter_repo_objects(names, **patterns))
        return folder

    names, downloaded = (
        [path.name for path in folder.iterdir()] + ["metrics.json", "evil.py", "pytorch_model.bin"],
        set(),
    )
    monkeypatch.setattr(contents.constants, "HF_HUB_OFFLINE", False)
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(contents.HfApi, "model_info", lambda self, name, timeout: info)
    monkeypatch.setattr(contents, "snapshot_download", snapshot_download)
    contents.resolve_source("user/model")
    assert downloaded == uploaded - set(CODE_FILES)


@pytest.mark.parametrize(
    "readme, replaceable",
    [
        ("---\nlicense: mit\n---\n", True),
        ("---\nlicense: mit\n---\n\n# mine", False),
        ("# mine", False),
        ("", True),
        ("# Model Card for Model ID\n" + "[More Information Needed]\n" * 39, True),
        ("# My model\nIt writes.\n" + "[More Information Needed]\n" * 9, False),
        (
            "# Model Card for x\nIt has been trained using [TRL](https://github.com/huggingface/trl).\na time machine",
            True,
        ),
        ("# Model Card for x\nIt has been trained using [TRL](https://github.com/huggingface/trl).\n", False),
        ("---\nlicense: mit\n---\n<!-- This model card has been generated automatically according", True),
    ],
)
def test_a_readme_that_nobody_wrote_may_be_replaced(readme, replaceable):
    assert is_replaceable(readme) == replaceable
