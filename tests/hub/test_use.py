"""Repositories in place of folders, after a real push: every command that uses a model, and what else it says."""

import json

import pytest
from peft import LoraConfig, get_peft_model

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from support.models import save_model
from support.stand_in import Repo

pytestmark = pytest.mark.hub

# `run` runs a command in the same process, as importing torch takes longer than all else.
COMMANDS = """
import contextlib, io, json, sys
from hf_gpt_scratch.cli import main

def run(*words, stdin="", status=0):
    sys.stdin, said = io.StringIO(stdin), io.StringIO()
    with contextlib.redirect_stderr(said):
        assert main([*words]) == status, (words, said.getvalue())
    return said.getvalue()
"""
# Instead of waiting between tries, a request that is made again fails.
NO_RETRIES = """
def sleep(seconds): raise AssertionError("asked again")
http.time = types.SimpleNamespace(**{**vars(time), "sleep": sleep})
"""


@pytest.fixture
def pushed(hub, elsewhere, tmp_path):
    """The repositories user/follower, user/spam and user/tuned, an adapter of the first one."""
    follower = save_model(tmp_path / "follower", chat=CHAT_TEMPLATE, n_positions=1024)  # enough for a judge
    labels = {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}}
    save_model(tmp_path / "spam", GPTScratchForSequenceClassification, **labels)
    push = """
import hf_gpt_scratch.hub.push as push
push.check = lambda *_: []  # in tests/hub/test_push.py
for name in ("follower", "spam"):
    run("push", name, f"user/{name}")
"""
    done = elsewhere(code=COMMANDS + push)
    assert done.returncode == 0, done.stderr
    settings = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    tuned = get_peft_model(GPTScratchForCausalLM.from_pretrained(follower), settings)
    tuned.peft_config["default"].base_model_name_or_path = "user/follower"
    tuned.save_pretrained(tmp_path / "tuned")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "tuned" / name).write_bytes((follower / name).read_bytes())
    files = {path.name: path.read_bytes() for path in (tmp_path / "tuned").iterdir() if path.is_file()}
    hub.repos["user/tuned"] = Repo(private=False)
    hub.repos["user/tuned"].commit("main", files)


def test_every_command_that_uses_a_model_takes_a_repository(hub, pushed, elsewhere, tmp_path):
    assert "chat_template.jinja" in hub.repos["user/follower"].commits[hub.repos["user/follower"].refs["main"]]
    row = {"instruction": "Say yes.", "input": "", "output": "yes", "model_response": "no"}
    (tmp_path / "responses.json").write_text(json.dumps([row]))
    commands = """
for name in ("user/follower", "user/tuned"):
    run("chat", name, "--max-new-tokens", "3", stdin="Say yes.\\n/quit\\n")
    run("generate", name, "--prompt", "the lamp", "--max-new-tokens", "3")
run("classify", "user/spam", "the lamp", "a boat on the sea")
run("export", "user/follower", "stock", "--to", "hf-gpt2")
run("judge", "responses.json", "--judge-model", "user/follower")

from hf_gpt_scratch import Chat, TextClassifier, load
assert load("user/tuned")[0].name_or_path == "user/tuned"
assert Chat.from_pretrained("user/follower").is_alpaca
assert TextClassifier.from_pretrained("user/spam").model.config.id2label[1] == "spam"

for words, advice in {
    ("classify", "user/follower", "the lamp"): "use `hf-gpt-scratch generate user/follower`",
    ("generate", "user/spam"): "use `hf-gpt-scratch classify user/spam`",
    ("chat", "user/spam"): "use `hf-gpt-scratch classify user/spam`",
    ("calibrate", "user/spam"): "calibrate needs a local folder",
}.items():
    said = run(*words, status=1)
    assert said.startswith("error: ") and advice in said and said.count("\\n") == 1, said
"""
    done = elsewhere(code=COMMANDS + commands)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the lamp") == 3 and (tmp_path / "stock" / "model.safetensors").is_file()
    assert "a boat on the sea" in done.stdout and "Mean score" in done.stdout


def test_a_repository_that_is_not_there_is_one_sentence(hub, elsewhere):
    commands = """
name = "user/nowhere"
for words in ["generate"], ["chat"], ["classify"], ["export", "out", "--to", "hf-gpt2"], ["convert", "out"]:
    print(run(words[0], name, *words[1:], status=1), end="")
"""
    done = elsewhere(code=COMMANDS + commands)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 5 * (
        "error: user/nowhere is neither a folder here nor a public repository on the Hub; for a private one, log in"
        " with `hf auth login`.\n"
    )
    asked = [request for request in hub.requests if "nowhere" in request]
    assert asked == 5 * ["GET /api/models/user/nowhere"]


def test_without_a_network_the_last_download_is_used_and_all_else_is_told_at_once(hub, pushed, elsewhere, tmp_path):
    again = """
run("generate", "user/follower", "--prompt", "the lamp", "--seed", "1", "--max-new-tokens", "3")
"""
    first = elsewhere(code=COMMANDS + again)
    assert first.returncode == 0, first.stderr
    hub.shutdown()
    hub.server_close()
    others = """
for words in ["generate"], ["convert", "out"], ["classify"], ["train", "pretrain"]:
    options = ["--tokenizer_name", "user/spam", "--output_dir", "out", "--data_file", "story.txt"]
    words = [*words, *options] if words[0] == "train" else [words[0], "user/spam", *words[1:]]
    said = run(*words, status=1)
    assert said.startswith("error: user/spam is not a folder here, and could not be downloaded"), said
    assert "no network? " in said and "check the connection, or give a local folder" in said
    assert said.count("\\n") == 1
"""
    (tmp_path / "story.txt").write_text("The lamp is on the hill. " * 100)
    done = elsewhere(code=NO_RETRIES + COMMANDS + again + others)
    assert (done.returncode, done.stdout) == (0, first.stdout), done.stderr[-3000:]
    forbidden = "import huggingface_hub; huggingface_hub.constants.HF_HUB_OFFLINE = True\n"
    refusal = """
assert "HF_HUB_OFFLINE=1 forbids downloads" in run("generate", "user/spam", status=1)
"""
    done = elsewhere(code=forbidden + COMMANDS + again + refusal)
    assert (done.returncode, done.stdout) == (0, first.stdout), done.stderr[-3000:]
