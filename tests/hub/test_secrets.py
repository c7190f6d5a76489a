"""What must not become public is found in every kind of file, and taken out of commands and sources."""

import json
import struct
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hf_gpt_scratch.hub.files import check_texts, require_no_secrets
from hf_gpt_scratch.hub.findings import CheckFailed
from hf_gpt_scratch.hub.secrets import public_command, public_source, public_text, secrets_in
from hf_gpt_scratch.utils.errors import InputError

AUTO_MAP = {"AutoConfig": "configuration_gpt_scratch.GPTScratchConfig"}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    put(tmp_path / "model", "config.json", "{}")
    return tmp_path / "model"


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


SECRETS = {
    "a Hugging Face token": "token_hf_" + "a1" * 17,
    "an API key": "sk-" + "b2" * 20,
    "a GitHub token": "ghp_" + "c3" * 18,
    "a GitLab token": "glpat-" + "g7" * 10,
    "a Slack token": "xoxb-" + "h8" * 8,
    "an AWS key": "AKIA" + "D4" * 8,
    "a secret": "aws_secret_access_key = " + "i9" * 20,
    "a bearer token": "Authorization: Bearer " + "e5" * 12,
    "a password in an address": "https://someone:f6f6f6f6@example.org/x",
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
}


@pytest.mark.parametrize("what, secret", SECRETS.items())
@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "config.json"])
def test_a_secret_is_found_and_not_shown(folder, name, what, secret):
    put(folder, name, json.dumps({"auto_map": AUTO_MAP, "x": secret}))
    with pytest.raises(CheckFailed, match=f"{name} holds {what}") as failure:
        check_texts(folder)
    assert secret[-12:] not in str(failure.value)


@pytest.mark.parametrize("before", ["\n", "\t", "line\n"])
def test_a_secret_after_an_escaped_character_is_found(folder, before):
    put(folder, "config.json", json.dumps({"x": before + SECRETS["a Hugging Face token"].removeprefix("token_")}))
    with pytest.raises(CheckFailed, match="config.json holds a Hugging Face token .* in x"):
        check_texts(folder)


@pytest.mark.parametrize(
    "text",
    ["--api_key abcdefghij0123456789", '"api_key": "abcdefghij0123456789"', "WANDB_API_KEY=abcdefghij0123456789"],
)
def test_a_key_of_any_service_is_found_by_its_name(folder, text):
    put(folder, "README.md", text)
    with pytest.raises(CheckFailed, match="README.md holds an API key"):
        check_texts(folder)


@pytest.mark.parametrize(
    "settings, where",
    [
        ({"api_key": "abcdefghij0123456789"}, "api_key"),
        ({"wandb": {"password": "hunter2hunter2hunter2"}}, "wandb.password"),
        ({"aws_secret_access_key": ["abcdefghij0123456789"]}, "aws_secret_access_key.0"),
        ({"cache": "redis://:f6f6f6f6@host:6379"}, "cache"),
    ],
)
def test_a_key_beside_its_name_in_json_is_found(folder, settings, where):
    put(folder, "config.json", json.dumps({"auto_map": AUTO_MAP, **settings}))
    with pytest.raises(CheckFailed, match=f"config.json holds .* in {where}:"):
        check_texts(folder)


def test_what_cannot_be_searched_is_told(folder):
    (folder / "README.md").write_bytes("words".encode("utf-16"))
    with pytest.raises(CheckFailed, match="README.md is not UTF-8"):
        check_texts(folder)


@pytest.mark.parametrize(
    "path",
    [
        "/home/me",
        "/Users/me",
        "/root/x",
        "/tmp/x",
        "/content/x",
        "/kaggle/x",
        "C:\\Users",
        "D:\\news\\x",
        "C:/Users",
        "C:\\temp",
        "D:\\train data",
        "\\\\server\\share",
        "/fsx/me",
        "/users/me",
        "/teamspace/x",
    ],
)
@pytest.mark.parametrize("text", ["{}", "--data_file={}/y.csv", "read '{}' first", "file://{}"])
def test_a_path_of_this_machine_is_found_with_its_place(folder, path, text):
    put(folder, "generation_config.json", json.dumps({"note": {"source": text.format(path)}}))
    with pytest.raises(CheckFailed, match="generation_config.json holds the path .* in note.source"):
        check_texts(folder)


def test_the_home_of_another_is_found(folder):
    put(folder, "README.md", "read ~me/x first")
    with pytest.raises(CheckFailed, match="README.md holds the path '~me/x'"):
        check_texts(folder)


def test_the_folder_and_the_home_are_found_wherever_they_are(folder, monkeypatch):
    monkeypatch.setenv("HOME", "/elsewhere/me")
    put(folder, "README.md", f"{folder.parent}/other and /elsewhere/me/x")
    with pytest.raises(CheckFailed) as failure:
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
        "[a picture](/datasets/user/name), <a href='/docs/x'>, 2>/dev/null, #!/usr/bin/env, a:/b, ~50/50",
        "password=os.environ.get('X'), secret = getpass.getpass(), https://user:{token}@host",
    ],
)
def test_what_only_looks_like_one_passes(folder, text):
    put(folder, "chat_template.jinja", text)
    put(folder, "tokenizer_config.json", json.dumps({"chat_template": text}))
    assert check_texts(folder).startswith("none in")


def test_all_that_is_wrong_is_told_at_once(folder):
    put(folder, "README.md", f"/home/me/x {SECRETS['an API key']}")
    put(folder, "generation_config.json", json.dumps(["/root/y", "/tmp/z"]))
    with pytest.raises(CheckFailed) as failure:
        check_texts(folder)
    assert all(word in str(failure.value) for word in ("'/home/me'", "an API key", "'/root/y'", "'/tmp/z'"))


def test_metadata_is_read_too(tmp_path):
    header = json.dumps({"__metadata__": {"from": "/home/me/x"}}).encode()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "model.safetensors holds the path '/home/me'" in secrets_in("model.safetensors", weights)[0]
    note = PngInfo()
    note.add_text("Comment", SECRETS["an API key"])
    Image.new("L", (1, 1)).save(tmp_path / "a.png", pnginfo=note)
    assert "a.png holds an API key" in secrets_in("plots/a.png", tmp_path / "a.png")[0]
    picture = (tmp_path / "a.png").read_bytes()
    assert "holds the path '/home/me'" in secrets_in("a.png", picture + b" /home/me/x")[0]
    hidden = PngInfo()
    hidden.add_text("Comment", SECRETS["an API key"], zip=True)
    hidden.add_itxt("Comment", "/home/me/x", zip=True)
    exif = Image.Exif()
    exif[0x010E] = "/home/you/x"
    Image.new("L", (1, 1)).save(tmp_path / "b.png", pnginfo=hidden, exif=exif)
    assert len(secrets_in("b.png", tmp_path / "b.png")) == 3
    weights.write_bytes(b"damaged")
    assert secrets_in("model.safetensors", weights) == secrets_in("a.png", b"damaged") == []


def test_what_was_made_for_a_push_is_searched_like_a_file(folder):
    with pytest.raises(CheckFailed, match="README.md holds a Hugging Face token"):
        require_no_secrets({"README.md": SECRETS["a Hugging Face token"].encode()}, folder)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("judge /home/someone/judge, mean of 0/100", "judge judge, mean of 0/100"),
        ("see https://example.org/a/b and runs/spam", "see https://example.org/a/b and runs/spam"),
        ("C:\\data\\x.txt, ~/y.txt, file:///srv/z.txt, ../data/w.txt", "x.txt, y.txt, z.txt, w.txt"),
    ],
)
def test_no_folder_of_the_machine_is_told(text, shown):
    assert public_text(text) == shown


@pytest.mark.parametrize(
    "command, shown",
    [
        ("python a.py --data_file=/home/someone/x.txt --n 3", "python a.py --data_file=x.txt --n 3"),
        ("python a.py --data_file '/home/J S/private/x y.txt'", "python a.py --data_file 'x y.txt'"),
        (
            "python a.py --output_dir /home/someone --data_file ../b/c.txt",
            "python a.py --output_dir '~' --data_file c.txt",
        ),
        ("judge a.json --base-url https://me:s3cret@host/v1", "judge a.json --base-url https://host/v1"),
        ("a --hub_token hf_xyz --api-key=k --key", "a --hub_token ... --api-key=... --key"),
        ("a --train_tokenizer 1000 --max_new_tokens 50 --sample_tokens=20 --tokenizer gpt2",) * 2,
    ],
)
def test_a_command_is_told_without_folders_and_secrets(command, shown):
    assert public_command(command) == shown


def test_a_source_is_called_by_its_file():
    assert public_source("/home/some one/private notes/x y.txt") == "x y.txt"
    assert public_source("text, test, runs/text.txt") == "text, test, runs/text.txt"
    with pytest.raises(InputError, match="cannot be parsed"):
        public_command("python 'unbalanced")
