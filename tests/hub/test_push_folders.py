"""Pushes of folders that other tools wrote: a plain Trainer's, and adapters of a local base model."""

import json
import shutil

import pytest

from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from support.hub_scripts import LOAD, LOAD_ADAPTER, PLAIN_ADAPTER, sentence
from support.models import save_model

pytestmark = pytest.mark.hub


PLAIN_TRAINER = """
import sys
from datasets import Dataset
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments
from hf_gpt_scratch import GPTScratchForCausalLM
model, tokenizer = GPTScratchForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
rows = Dataset.from_list([{"input_ids": tokenizer("a boat on the sea")["input_ids"]}] * 8)
arguments = TrainingArguments("out", max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True, save_steps=1)
trainer = Trainer(model, arguments, DataCollatorForLanguageModeling(tokenizer, mlm=False), rows)
trainer.train()
trainer.save_model("out")
model.eval()
print(model(**tokenizer("a boat", return_tensors="pt")).logits.sum().item())
"""


def test_a_folder_that_a_plain_trainer_wrote_is_pushed_in_one_command(hub, elsewhere, tmp_path):
    base, out = save_model(tmp_path / "model"), tmp_path / "out"
    trained = elsewhere(str(base), code=PLAIN_TRAINER)
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert {"training_args.bin", "checkpoint-2"} <= {path.name for path in out.iterdir()}
    before = {path.name for path in out.iterdir()}
    pushed = elsewhere("push", "out", "user/plain")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert "not uploaded: checkpoint-1/, checkpoint-2/, training_args.bin" in pushed.stdout
    assert "note: out has no reference_logits.json; its logits were recorded now" in pushed.stdout
    assert "AutoModelForCausalLM: its logits are the same as" in pushed.stdout
    files = hub.repos["user/plain"].commits[hub.repos["user/plain"].refs["main"]]
    assert "reference_logits.json" in files and not {"training_args.bin"} & files.keys()
    assert before == {path.name for path in out.iterdir()}
    loaded = elsewhere("user/plain", "trust", code=LOAD)
    assert float(loaded.stdout.split()[-1]) == pytest.approx(float(trained.stdout.split()[-1]), rel=1e-5)


def test_a_folder_of_checkpoints_alone_names_the_last_one(elsewhere, tmp_path):
    for name in ("checkpoint-9", "checkpoint-10"):
        (tmp_path / "out" / name).mkdir(parents=True)
    assert sentence(elsewhere("push", "out", "user/plain")).endswith("or use out/checkpoint-10 as it is.")


LOCAL_ADAPTER = PLAIN_ADAPTER.replace("record_reference_logits(Path(sys.argv[1]))", "").replace("user/base", "base")
OUR_LOAD = """
import sys
from hf_gpt_scratch import load
model, tokenizer = load(sys.argv[1])
print(model(**tokenizer("a boat", return_tensors="pt")).logits.sum().item())
"""


def test_an_adapter_of_a_local_base_is_pushed_with_the_repository_of_that(hub, elsewhere, tmp_path):
    pytest.importorskip("peft")
    save_model(tmp_path / "base")
    made = elsewhere("adapter", code=LOCAL_ADAPTER)
    assert made.returncode == 0, made.stderr[-3000:]
    contents = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    advice = "hf-gpt-scratch push base OWNER/BASE), then repeat this command with --base-model OWNER/BASE"
    refused = elsewhere("push", "adapter", "user/tuned")
    assert "1 of" in sentence(refused) and refused.stdout.count(advice) == 1
    absent = elsewhere("push", "adapter", "user/tuned", "--base-model", "user/base")
    assert "1 of" in sentence(absent) and "push the base model there first" in absent.stdout

    assert elsewhere("push", "base", "user/base", checked=False).returncode == 0
    checked = elsewhere("check", "adapter", "--base-model", "user/base")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    pushed = elsewhere("push", "adapter", "user/tuned", "--base-model", "user/base")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert "Loaded back from there with AutoPeftModelForCausalLM: its logits " in pushed.stdout
    assert contents == {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    files = hub.repos["user/tuned"].commits[hub.repos["user/tuned"].refs["main"]]
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "user/base"
    card = files["README.md"].decode()
    assert "base_model: user/base\n" in card and "base_model_relation: adapter\n" in card

    shutil.rmtree(tmp_path / "base")
    sums = [elsewhere("user/tuned", "trust", code=code) for code in (LOAD_ADAPTER, OUR_LOAD)]
    assert sums[0].returncode == sums[1].returncode == 0, sums[0].stderr[-2000:] + sums[1].stderr[-2000:]
    assert float(sums[0].stdout.split()[-1]) == pytest.approx(float(sums[1].stdout.split()[-1]), rel=1e-5)


def test_another_base_than_the_adapters_own_is_noticed(hub, elsewhere, tmp_path):
    pytest.importorskip("peft")
    save_model(tmp_path / "base")
    assert elsewhere("adapter", code=LOCAL_ADAPTER).returncode == 0
    assert elsewhere("push", str(save_model(tmp_path / "b", seed=9)), "user/other", checked=False).returncode == 0
    refused = elsewhere("push", "adapter", "user/tuned", "--base-model", "user/other")
    assert "1 of" in sentence(refused) and "logits" in refused.stdout and "user/tuned" not in hub.repos


def test_base_model_is_for_adapters_and_a_repository(hub, elsewhere, tmp_path):
    save_model(tmp_path / "model")
    wrong = elsewhere("push", "model", "user/x", "--base-model", "user/base")
    assert wrong.returncode == 2 and "--base-model is for adapters" in wrong.stderr
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    local = elsewhere("push", "adapter", "user/x", "--base-model", "model")
    assert local.returncode == 2 and "takes a Hub repository" in local.stderr


def test_a_pushed_follower_chats_from_the_hub(hub, elsewhere, tmp_path):
    """Whatever a model needs comes back with it: `MODEL_FILES` is the one list, for both ways."""
    folder = save_model(tmp_path / "model", chat=CHAT_TEMPLATE, n_positions=256)
    assert elsewhere("push", str(folder), "user/chat", checked=False).returncode == 0
    shutil.rmtree(folder)
    code = "from hf_gpt_scratch import load; print(load('user/chat')[1].chat_template)"
    loaded = elsewhere(code=code)
    assert loaded.returncode == 0 and "### Instruction:" in loaded.stdout, loaded.stderr[-2000:]
