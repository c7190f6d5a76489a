"""Pushes to a stand-in for the Hub, and what comes back from there."""

import json
import re
import shutil
from pathlib import Path

import pytest

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.pretrained import record_reference_logits
from support.hub_scripts import LOAD, LOAD_ADAPTER, PLAIN_ADAPTER, sentence
from support.models import save_model
from support.stand_in import TOKEN

pytestmark = pytest.mark.hub
TRAINING = Path(__file__).parents[2] / "training"


def test_a_model_goes_there_and_loads_anywhere(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    (folder / "checkpoint-3").mkdir()
    (folder / "metrics.json").write_text("{}")
    pushed = elsewhere("push", str(folder), "user/repo", "--private")
    assert pushed.returncode == 0, pushed.stderr
    checks, where, loaded, next_step = pushed.stdout.splitlines()[-4:]
    assert checks == f"15 of 15 checks passed (`hf-gpt-scratch check {folder}` lists them)."
    repo = hub.repos["user/repo"]
    assert re.fullmatch(rf"Pushed to http\S+/user/repo \(commit {repo.refs['main'][:7]}\)\.", where)
    with_class = "Loaded back from there with AutoModelForCausalLM"
    assert loaded == f"{with_class}: its logits are the same as those recorded before."
    assert next_step == "Next: hf-gpt-scratch generate user/repo"
    assert repo.private and len(repo.commits) == 2  # the Hub's own, and one of everything
    files = repo.commits[repo.refs["main"]]
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert {"README.md", "modeling_gpt_scratch.py", "tokenizer.json", "reference_logits.json"} <= files.keys()
    assert not {"metrics.json", "checkpoint-3"} & {name.split("/")[0] for name in files}
    assert "user/repo" in files["README.md"].decode()

    checked = elsewhere("check", "user/repo")
    assert checked.returncode == 0 and checked.stdout.count(" ok ") == 14, checked.stdout + checked.stderr
    loaded = elsewhere("user/repo", "trust", code=LOAD)
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    local = elsewhere(str(folder), "trust", code=LOAD)
    assert float(loaded.stdout.split()[-1]) == float(local.stdout.split()[-1])
    assert "trust_remote_code" in elsewhere("user/repo", "distrust", code=LOAD).stderr
    shutil.rmtree(tmp_path / "home")  # where it was cached
    assert elsewhere("user/repo", "trust", code=LOAD, token="").returncode != 0


def test_a_dry_run_and_a_failed_check_push_nothing(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    dry = elsewhere("push", str(folder), "user/repo", "--dry-run")
    assert dry.returncode == 0 and "model.safetensors" in dry.stdout and "nothing was pushed" in dry.stdout
    assert not (folder / "README.md").exists()
    (folder / "tokenizer.json").unlink()
    assert "checks of" in sentence(elsewhere("push", str(folder), "user/repo"))
    assert hub.repos == {}


def test_the_old_revision_goes_on_loading_when_an_upload_breaks_off(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    assert elsewhere("push", str(folder), "user/repo").returncode == 0
    repo = hub.repos["user/repo"]
    before = repo.refs["main"]
    old = elsewhere("user/repo", "trust", code=LOAD).stdout
    other = save_model(tmp_path / "other", seed=1)
    model = GPTScratchForCausalLM.from_pretrained(other)
    (other / "model.safetensors").unlink()
    model.save_pretrained(other, max_shard_size="30KB")
    record_reference_logits(other)
    assert len(list(other.glob("model-*.safetensors"))) > 2
    hub.break_uploads_after = 1
    again = "A push changes all or nothing there: push again"
    assert again in sentence(elsewhere("push", str(other), "user/repo", checked=False))
    assert hub.break_uploads_after == 0 and repo.refs["main"] == before
    hub.break_uploads_after, hub.break_commits = None, True
    assert again in sentence(elsewhere("push", str(other), "user/repo", checked=False))
    hub.break_commits = False
    shutil.rmtree(tmp_path / "home")
    assert elsewhere("user/repo", "trust", code=LOAD).stdout == old
    assert elsewhere("push", str(other), "user/repo").returncode == 0
    files = repo.commits[repo.refs["main"]]
    assert "model.safetensors" not in files and "model.safetensors.index.json" in files


def test_branches_and_pull_requests_leave_main_alone(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    assert elsewhere("push", str(folder), "user/repo", "--revision", "trial").returncode == 0
    repo = hub.repos["user/repo"]
    assert "model.safetensors" not in repo.commits[repo.refs["main"]]
    assert "model.safetensors" in repo.commits[repo.refs["trial"]]
    proposed = elsewhere("push", str(folder), "user/repo", "--create-pr", checked=False)
    assert proposed.returncode == 0 and "/discussions/1" in proposed.stdout
    assert "model.safetensors" not in repo.commits[repo.refs["main"]]
    assert "model.safetensors" in repo.commits[repo.refs["refs/pr/1"]]


def test_refusals_are_one_sentence(hub, elsewhere, tmp_path, monkeypatch):
    folder = save_model(tmp_path / "model")
    assert "does not accept the token" in sentence(
        elsewhere("push", str(folder), "user/repo", token=TOKEN[:-3] + "xyz", checked=False)
    )
    assert "no write access to other/repo" in sentence(elsewhere("push", str(folder), "other/repo", checked=False))
    for name in ("user/re po", "repo"):
        refused = elsewhere("push", str(folder), name)
        assert refused.returncode == 2 and f"error: {name!r} is not the name of a repository" in refused.stderr
    assert hub.repos == {}


def test_what_is_there_already_is_respected(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    assert elsewhere("push", str(folder), "user/repo").returncode == 0
    repo = hub.repos["user/repo"]
    own = {"README.md": b"by hand", "scripts/eval.py": b"1", "last/x.safetensors": b"2", "handler.py": b"3"}
    own |= {"plots/mine.png": b"4", "consolidated.safetensors": b"5"}
    older = {"chat_template.jinja": b"6", "model-00001-of-00002.safetensors": b"7", "training_args.bin": b"8"}
    repo.commit("main", repo.commits[repo.refs["main"]] | own | older)
    assert "exists and is public" in sentence(elsewhere("push", str(folder), "user/repo", "--private", checked=False))
    again = elsewhere("push", str(folder), "user/repo", checked=False)
    assert again.returncode == 0 and "README.md in the repository was written by hand and is kept" in again.stdout
    files = repo.commits[repo.refs["main"]]
    assert own.items() <= files.items() and not older.keys() & files.keys()

    for config, kind in ((b'{"model_type": "llama"}', "'llama'"), (b"[1]", "None"), (b"{", "None")):
        before = repo.commit("main", files | {"config.json": config})
        assert f"holds a model of type {kind}" in sentence(elsewhere("push", str(folder), "user/repo", checked=False))
        assert repo.refs["main"] == before
    repo.commit("main", {"adapter_config.json": b"{}"})
    assert "holds an adapter" in sentence(elsewhere("push", str(folder), "user/repo", checked=False))


def test_a_card_that_nobody_wrote_is_replaced_and_its_licence_kept(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    assert elsewhere("push", str(folder), "user/repo", checked=False).returncode == 0
    repo = hub.repos["user/repo"]
    repo.commit("main", repo.commits[repo.refs["main"]] | {"README.md": b"---\nlicense: apache-2.0\n---\n"})
    for words in ((), ("--license", "mit")):
        assert elsewhere("push", str(folder), "user/repo", *words, checked=False).returncode == 0
        card = repo.commits[repo.refs["main"]]["README.md"].decode()
        assert f"license: {words[-1] if words else 'apache-2.0'}" in card and "## How to use" in card


def test_a_secret_that_only_the_card_would_tell_is_found(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    (folder / "metrics.json").write_text(json.dumps({"command": f"python a.py --note {TOKEN}"}))
    refused = elsewhere("push", str(folder), "user/repo")
    assert "1 of 15 checks" in sentence(refused) and "README.md holds a Hugging Face token" in refused.stdout
    assert hub.repos == {} and TOKEN not in refused.stdout + refused.stderr


def test_metadata_that_the_hub_refuses_is_one_sentence(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: none-such\n---\n# by hand")
    hub.refused_metadata = "none-such"
    assert "The Hub refused the model card of user/repo" in sentence(
        elsewhere("push", str(folder), "user/repo", checked=False)
    )


def test_a_push_without_a_token_is_refused_at_once(hub, elsewhere, tmp_path):
    refused = elsewhere("push", str(save_model(tmp_path / "model")), "user/repo", token="")
    assert "A push needs a Hub token" in sentence(refused) and hub.requests == []


def test_a_hub_that_is_down_is_one_sentence(hub, elsewhere, tmp_path):
    folder = save_model(tmp_path / "model")
    hub.shutdown()
    hub.server_close()
    assert "A push changes all or nothing there: push again" in sentence(
        elsewhere("push", str(folder), "user/repo", checked=False)
    )


TRAINER = """
import sys
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.tokenizer import load_tokenizer
from hf_gpt_scratch.training.trainer import ModelCodeCallback
model, tokenizer = GPTScratchForCausalLM.from_pretrained(sys.argv[1]), load_tokenizer(sys.argv[1])
rows = Dataset.from_list([{"input_ids": tokenizer("a boat on the sea")["input_ids"]}] * 8)
arguments = TrainingArguments("out", max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True, learning_rate=1e-2,
    save_steps=2, push_to_hub=True, hub_model_id="user/trained")
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
callbacks = [ModelCodeCallback()] if sys.argv[2] == "while training" else []
trainer = Trainer(model, arguments, collator, rows, processing_class=tokenizer, callbacks=callbacks)
trainer.train()
if not callbacks:
    trainer.push_to_hub()
model.eval()
print(model(**tokenizer("a boat", return_tensors="pt")).logits.sum().item())
"""


@pytest.mark.parametrize("when", ["at the end", "while training"])
def test_trainers_own_push_loads_as_well(hub, elsewhere, tmp_path, when):
    trained = elsewhere(str(save_model(tmp_path / "model")), when, code=TRAINER)
    assert trained.returncode == 0, trained.stderr[-3000:]
    loaded = elsewhere("user/trained", "trust", code=LOAD)
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert float(loaded.stdout.split()[-1]) == pytest.approx(float(trained.stdout.split()[-1]), rel=1e-5)
    if when == "while training":
        [files] = [files for files in hub.repos["user/trained"].commits.values() if "model.safetensors" in files]
        assert {"modeling_gpt_scratch.py", "configuration_gpt_scratch.py"} <= files.keys()


def train_script(script: str, out, *options: str) -> str:
    """Code that runs one of the training scripts for two steps on the demo's data, and pushes what comes of it."""
    shape = "--n_embd 32 --n_layer 1 --n_head 2 --n_positions 64 --max_steps 2 --save_strategy steps --save_steps 1"
    words = f"--use_cpu true --disable_tqdm true --train_tokenizer 400 {shape} --eval_strategy no".split()
    words += ["--output_dir", str(out), "--push_to_hub", "true", "--hub_model_id", "user/scripted", *options]
    return script_code(script, words)


def script_code(script: str, words: list[str]) -> str:
    """Code that runs one of the training scripts."""
    return f"""
import sys
sys.path.insert(0, {str(TRAINING)!r})
import {script}
sys.exit({script}.main({words!r}))
"""


@pytest.mark.parametrize("strategy", ["end", "every_save"])
def test_a_script_pushes_what_it_trained(hub, elsewhere, tmp_path, strategy):
    story = str(TRAINING / "demo_data" / "story.txt")
    options = ["--data_file", story, "--hub_strategy", strategy, "--hub_private_repo", "true"]
    trained = elsewhere(code=train_script("pretrain", tmp_path / "out", *options))
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "Loaded back from there with AutoModelForCausalLM" in trained.stdout
    repo = hub.repos["user/scripted"]
    files = repo.commits[repo.refs["main"]]
    assert repo.private and b"perplexity" in files["README.md"]
    assert not {"training_args.bin", "samples.jsonl", "metrics.json"} & files.keys()
    models = [files for files in repo.commits.values() if "model.safetensors" in files]
    assert len(models) >= {"end": 1, "every_save": 2}[strategy]
    assert all("modeling_gpt_scratch.py" in files for files in models)


def test_nothing_else_is_pushed_while_a_script_trains(hub, elsewhere, tmp_path):
    options = ["--data_file", str(TRAINING / "demo_data" / "story.txt"), "--hub_strategy", "every_save"]
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    code = train_script("pretrain", out, *options)
    assert elsewhere("push", str(save_model(tmp_path / "model")), "user/scripted", checked=False).returncode == 0
    repo = hub.repos["user/scripted"]
    first = repo.refs["main"]
    assert "public" in sentence(elsewhere(code=train_script("pretrain", out, *options, "--hub_private_repo", "true")))
    there = repo.commits[first]
    repo.commit("main", there | {"config.json": b'{"model_type": "llama"}'})
    assert "'llama'" in sentence(elsewhere(code=code))
    assert not list(out.glob("checkpoint-*"))
    repo.refs["main"] = first
    trained = elsewhere(code=code)
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert re.search("not uploaded: .*notes.txt", trained.stdout)
    pushed = set(repo.commits[repo.refs["main"]]) - set(there)
    assert repo.refs["main"] != first and pushed == {"plots/training.png"}
    assert not list(out.glob(".model.*"))


def test_an_adapter_of_a_script_has_a_repository_of_its_own(hub, elsewhere, tmp_path):
    pytest.importorskip("peft")
    base = save_model(tmp_path / "model", n_positions=256)
    assert elsewhere("push", str(base), "user/base", checked=False).returncode == 0
    rows = [{"instruction": f"Say {i}", "input": "", "output": "a boat on the sea"} for i in range(40)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    words = (
        f"--model_name_or_path user/base --data_file {tmp_path / 'rows.json'} --lora_r 2 --max_steps 2 --use_cpu true"
    )
    words = f"{words} --answered_rows 2 --disable_tqdm true --push_to_hub true --hub_strategy every_save".split()

    def tuned(out: str, repo_id: str):
        options = [*words, "--output_dir", str(tmp_path / out), "--hub_model_id", repo_id]
        return elsewhere(code=script_code("finetune_instruct", options))

    assert "holds a whole model" in sentence(tuned("over", "user/base"))
    run = tuned("beside", "user/tuned")
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Loaded back from there with AutoPeftModelForCausalLM" in run.stdout
    files = [files for files in hub.repos["user/tuned"].commits.values() if "adapter_config.json" in files]
    assert len(files) > 1 and "model.safetensors" not in files[-1]
    card = files[-1]["README.md"].decode()
    assert "LoRA tuning" in card and "Adapters need the package `peft`" in card
    assert "holds an adapter" in sentence(elsewhere("push", str(base), "user/tuned", checked=False))


def test_a_script_that_may_not_push_says_so_before_it_trains(hub, elsewhere, tmp_path):
    story = ["--data_file", str(TRAINING / "demo_data" / "story.txt")]
    code = train_script("pretrain", tmp_path / "out", *story)
    refused = elsewhere(code=code, token=TOKEN[:-3] + "xyz")
    assert "does not accept the token" in sentence(refused) and "step 2" not in refused.stdout
    revealed = elsewhere(code=train_script("pretrain", tmp_path / "out", *story, "--hub_token", TOKEN))
    assert revealed.returncode == 2 and "HF_TOKEN" in revealed.stderr and TOKEN not in revealed.stderr


ADAPTER = """
import sys
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("user/base", trust_remote_code=True)
model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False))
model.push_to_hub("user/adapter")
tokenizer = AutoTokenizer.from_pretrained("user/base", trust_remote_code=True)
tokenizer.push_to_hub("user/adapter")
print(model.eval()(**tokenizer("a boat", return_tensors="pt")).logits.sum().item())
"""


def test_an_adapter_is_pushed_by_the_command(hub, elsewhere, tmp_path):
    pytest.importorskip("peft")
    assert elsewhere("push", str(save_model(tmp_path / "model")), "user/base", checked=False).returncode == 0
    made = elsewhere(str(tmp_path / "adapter"), code=PLAIN_ADAPTER)
    assert made.returncode == 0, made.stderr[-3000:]
    shutil.rmtree(tmp_path / "home")  # where the base was cached
    pushed = elsewhere("push", str(tmp_path / "adapter"), "user/tuned")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert "Loaded back from there with AutoPeftModelForCausalLM: its logits " in pushed.stdout


def test_an_adapter_over_a_remote_base(hub, elsewhere, tmp_path):
    pytest.importorskip("peft")
    assert elsewhere("push", str(save_model(tmp_path / "model")), "user/base", checked=False).returncode == 0
    adapted = elsewhere(code=ADAPTER)
    assert adapted.returncode == 0, adapted.stderr[-3000:]
    config = json.loads(
        hub.repos["user/adapter"].commits[hub.repos["user/adapter"].refs["main"]]["adapter_config.json"]
    )
    assert config["base_model_name_or_path"] == "user/base"
    loaded = elsewhere("user/adapter", "trust", code=LOAD_ADAPTER)
    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert float(loaded.stdout.split()[-1]) == pytest.approx(float(adapted.stdout.split()[-1]), rel=1e-5)
