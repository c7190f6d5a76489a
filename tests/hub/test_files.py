"""Which files of a folder would be uploaded, what else may lie there, and what must not stand in them."""

import json
from pathlib import Path

import pytest

from hf_gpt_scratch.hub.files import check_files, check_texts, uploadable
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


SECRETS = {
    "a Hugging Face token": "token_hf_" + "a1" * 17,
    "an API key": "sk-" + "b2" * 20,
    "a GitHub token": "ghp_" + "c3" * 18,
    "an AWS key": "AKIA" + "D4" * 8,
    "a bearer token": "Authorization: Bearer " + "e5" * 12,
    "a password in an address": "https://someone:f6f6f6f6@example.org/x",
}


@pytest.mark.parametrize("what, secret", SECRETS.items())
@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "config.json"])
def test_a_secret_is_found_and_not_shown(folder, name, what, secret):
    put(folder, name, json.dumps({"auto_map": AUTO_MAP, "x": secret}))
    with pytest.raises(Failure, match=f"{name} holds {what}") as failure:
        check_texts(folder)
    assert secret[-12:] not in str(failure.value)


@pytest.mark.parametrize("text", ["--api_key abcdefghij0123456789", '"api_key": "abcdefghij0123456789"'])
def test_a_key_of_any_service_is_found_by_its_name(folder, text):
    put(folder, "README.md", text)
    with pytest.raises(Failure, match="README.md holds an API key"):
        check_texts(folder)


@pytest.mark.parametrize(
    "path",
    ["/home/me", "/Users/me", "/root/x", "/tmp/x", "/content/x", "/kaggle/x", "C:\\Users", "D:\\news\\x", "C:/Users"],
)
@pytest.mark.parametrize("text", ["{}", "--data_file={}/y.csv", "read '{}' first", "file://{}"])
def test_a_path_of_this_machine_is_found_with_its_place(folder, path, text):
    put(folder, "generation_config.json", json.dumps({"note": {"source": text.format(path)}}))
    with pytest.raises(Failure, match="generation_config.json holds the path .* in note.source"):
        check_texts(folder)


def test_the_folder_and_the_home_are_found_wherever_they_are(folder, monkeypatch):
    monkeypatch.setenv("HOME", "/elsewhere/me")
    put(folder, "README.md", f"{folder.parent}/other and /elsewhere/me/x")
    with pytest.raises(Failure) as failure:
        check_texts(folder)
    assert "'/elsewhere/me'" in str(failure.value) and str(folder.parent) in str(failure.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/me and s3://data/x",
        "train/test/data/x, his/her, ~/data/x, runs/tmp/x, ./data/x",
        "Q:\nA:",
        "{{ 'Q:\\nfoo' }}",
        "Bearer $HF_TOKEN, hf_hub_download, api_key = os.environ['KEY'], task-specific-fine-tuning-data",
        "mail me@example.org; at 12:30 a:b",
    ],
)
def test_what_only_looks_like_one_passes(folder, text):
    put(folder, "chat_template.jinja", text)
    put(folder, "tokenizer_config.json", json.dumps({"chat_template": text}))
    assert check_texts(folder).startswith("none in")


def test_all_that_is_wrong_is_told_at_once(folder):
    put(folder, "README.md", f"/home/me/x {SECRETS['an API key']}")
    put(folder, "generation_config.json", json.dumps(["/root/y", "/tmp/z"]))
    with pytest.raises(Failure) as failure:
        check_texts(folder)
    assert all(word in str(failure.value) for word in ("'/home/me'", "an API key", "'/root/y'", "'/tmp/z'"))
