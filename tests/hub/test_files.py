"""Which files of a folder would be uploaded, what else may lie there, and what must not stand in them."""

import json
from pathlib import Path

import pytest

from hf_gpt_scratch.hub.files import check_files, uploadable
from hf_gpt_scratch.hub.findings import Failure

CODE = ("configuration_gpt_scratch.py", "modeling_gpt_scratch.py")
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
    assert check_files(folder) == "5 to upload; 6 others stay here"


@pytest.mark.parametrize("name", ["notes.txt", "evil.py", "plots/data.csv", "results/x.png", "data/train.csv"])
def test_what_nothing_of_ours_wrote_is_named(folder, name):
    put(folder, name)
    with pytest.raises(Failure, match=f"{name.replace('data/train.csv', 'data')} does not belong"):
        check_files(folder)


def test_many_strays_are_counted(folder):
    for number in range(7):
        put(folder, f"{number}.txt")
    with pytest.raises(Failure, match="0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more"):
        check_files(folder)


@pytest.mark.parametrize("reference", ["user/repo--modeling.Model", "../../x.Model", "*.Model", ["a.B", None], None])
def test_code_that_is_not_beside_the_model_is_named(folder, reference):
    put(folder, "config.json", json.dumps({"auto_map": AUTO_MAP | {"AutoModel": reference}}))
    with pytest.raises(Failure, match="auto_map in config.json names code that is not beside it: AutoModel"):
        check_files(folder)
