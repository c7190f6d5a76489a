"""Every YAML under training/configs runs: two steps of its job, the model and the data replaced by small ones."""

import importlib
import json
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForCausalLM
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.tokenizer import train_tokenizer

TRAINING = Path(__file__).parents[2] / "training"
JOBS = ("pretrain", "classify", "spam", "instruct", "prefer", "chat")
CONFIGS = sorted(path for job in JOBS for path in (TRAINING / "configs" / job).glob("*.yaml"))
# What every run is shrunk to; all else stays as the YAML has it.
SMALL = {
    "max_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "warmup_steps": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "use_cpu": True,
}
SHAPE = {"n_embd": 128, "n_layer": 1, "n_head": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of a small language model and its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([(TRAINING / "demo_data" / "story.txt").read_text(encoding="utf-8")], 400)
    tokenizer.chat_template = CHAT_TEMPLATE
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    config = GPTScratchConfig(vocab_size=len(tokenizer), n_positions=512, **SHAPE, **special)
    GPTScratchForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The options that give each job small data of its own kind."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {"instruction": f"Count to {n}.", "input": "", "output": " ".join(map(str, range(n)))} for n in range(1, 41)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    answers = [{"prompt": row["instruction"], "chosen": "1", "rejected": row["output"]} for row in rows[2:]]
    (folder / "preferences.json").write_text(json.dumps(answers))
    questions = [f"What is {n}?;It is {n}.;{n}?|and {n}?" for n in range(1, 9)]
    (folder / "faq.csv").write_text("question;answer;rephrasings\n" + "\n".join(questions))
    (folder / "hub").mkdir()
    story = (TRAINING / "demo_data" / "story.txt").read_text(encoding="utf-8")
    lines = [json.dumps({"text": paragraph}) for paragraph in story.split("\n\n")]
    (folder / "hub" / "train.jsonl").write_text("\n".join(lines))
    messages = (Path(__file__).parents[1] / "support" / "messages.tsv").read_text(encoding="utf-8")
    (folder / "messages.tsv").write_text("label\ttext\n" + messages[: messages.index("\n", 8000) + 1])
    return {
        "classify": {"data_file": folder / "messages.tsv"},
        "pretrain": {"data_file": TRAINING / "demo_data" / "story.txt", "dataset_name": folder / "hub"},
        "spam": {"data_file": Path(__file__).parents[1] / "support" / "messages.tsv"},
        "instruct": {"data_file": folder / "rows.json"},
        "prefer": {"data_file": folder / "preferences.json"},
        "chat": {"data_file": folder / "faq.csv"},
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_config_runs_two_steps(path, model, data, tmp_path):
    settings, job = yaml.safe_load(path.read_text(encoding="utf-8")), path.parent.name
    options = SMALL | {"output_dir": tmp_path / "out"}
    options |= {name: value for name, value in SHAPE.items() if name in settings}
    options |= {name: model for name in ("model_name_or_path", "tokenizer_name") if name in settings}
    given = "dataset_name" if "dataset_name" in settings else "data_file"
    options[given] = data[job][given]
    if "train_tokenizer" in settings:
        options["train_tokenizer"] = 400
    if job == "pretrain":
        options |= {
            "sample_every": 1,
            "sample_tokens": 3,
            "max_length": 64,
            "validation_share": 0.1,
            "max_validation_characters": 2000,
        }
    if job == "prefer":
        pytest.importorskip("trl", reason="pip install -e '.[trl]'")
    if job in ("instruct", "prefer"):
        options |= {"max_new_tokens": 3, "answered_rows": 2}
        if settings.get("qlora"):
            pytest.importorskip("bitsandbytes", reason="pip install -e '.[qlora]'")
    if job == "chat":
        options["max_new_tokens"] = 3
    argv = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    metrics = importlib.import_module(f"hf_gpt_scratch.training.{job}").main([path.stem, *argv])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert (tmp_path / "out" / "config.json").is_file()
    # The first line is the command to paste.
    command = path.read_text(encoding="utf-8").splitlines()[0].split()
    assert command[:5] == ["#", "hf-gpt-scratch", "train", job, path.stem]


@pytest.mark.parametrize("path", sorted((TRAINING / "configs" / "accelerate").glob("*.yaml")), ids=lambda p: p.name)
def test_accelerate_config_is_one(path):
    assert load_config_from_file(str(path)).num_processes >= 1


def test_no_config_is_left_out():
    others = {f"accelerate/{name}.yaml" for name in ("ddp", "deepspeed_zero2", "fsdp2")}
    others |= {"corpus.yaml", "harness/own_text.yaml"}  # the latter: evaluation/test_harness.py
    found = {path.relative_to(TRAINING / "configs").as_posix() for path in (TRAINING / "configs").rglob("*.yaml")}
    assert found == others | {path.relative_to(TRAINING / "configs").as_posix() for path in CONFIGS}
    assert yaml.safe_load((TRAINING / "configs" / "corpus.yaml").read_text())
