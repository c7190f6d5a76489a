"""The spam script from its command line to the files it leaves, on the messages written for the demo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch.classification.classifier import TextClassifier
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.training import spam
from hf_gpt_scratch.utils.errors import InputError

TRAINING = Path(__file__).parents[2] / "training"
MESSAGES = Path(__file__).parents[1] / "support" / "messages.tsv"
SETTINGS = {
    "data_file": MESSAGES,
    "train_tokenizer": 500,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 128,
    "prefix_loss_weight": 0.5,
    "num_train_epochs": 10,
    "per_device_train_batch_size": 16,
    "learning_rate": 2e-3,
    "use_cpu": True,
    "disable_tqdm": True,
}


def options(output_dir: Path, **changes) -> list[str]:
    settings = {**SETTINGS, "output_dir": output_dir, **changes}
    return [word for key, value in settings.items() if value is not None for word in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    spam.main(options(folder))
    return folder


def test_it_learns_and_writes_everything(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["sizes"] == {"train": 336, "validation": 48, "test": 96}
    assert metrics["f1"] > 0.6 and metrics["baseline"]["f1"] > 0.8  # all spam would be 0.45
    assert sum(map(sum, metrics["confusion_matrix"])) == 96
    for key in ("accuracy", "precision", "recall", "f1", "mcc"):
        for result in (metrics, metrics["baseline"]):
            low, high = result["intervals"][key]
            assert low <= result[key] <= high
    assert metrics["protocol"] == "grouped" and metrics["test_rows_with_a_near_copy_in_train"] == 0
    command = metrics["command"].removeprefix("OMP_NUM_THREADS=1 ")
    assert command.startswith("hf-gpt-scratch train spam --data_file")
    assert {"seed", "seconds", "versions", "hardware"} <= metrics.keys() and len(metrics["data"]["sha256"]) == 64
    for name in ("training", "confusion_matrix", "precision_recall"):
        with Image.open(trained / "plots" / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(maxcolors=10**6)) > 10
    model = AutoModelForSequenceClassification.from_pretrained(trained)
    assert model.config.id2label == {0: "ham", 1: "spam"}
    assert not [path.name for path in trained.iterdir() if "partial" in path.name or path.suffix == ".bin"]


def test_metrics_are_those_of_the_saved_model(trained):
    from hf_gpt_scratch.data import sms_spam

    test = sms_spam.split(sms_spam.load_messages(MESSAGES), "grouped", 123)["test"]
    predictions = TextClassifier.from_pretrained(trained).classify(test["text"])
    correct = sum(prediction.label == sms_spam.LABELS[label] for prediction, label in zip(predictions, test["label"]))
    assert json.loads((trained / "metrics.json").read_text())["accuracy"] == correct / 96


def test_killed_and_resumed_ends_with_the_same_weights(trained, tmp_path):
    command = [sys.executable, str(TRAINING / "finetune_spam.py"), *options(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint-42" / "trainer_state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "config.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    command = json.loads((tmp_path / "metrics.json").read_text())["command"]
    assert command.removeprefix("OMP_NUM_THREADS=1 ").startswith("python training/finetune_spam.py --data_file")
    resumed, expected = load_file(tmp_path / "model.safetensors"), load_file(trained / "model.safetensors")
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_frozen_layers_stay_and_the_others_move(trained, tmp_path):
    changes = {"model_name_or_path": trained, "train_tokenizer": None, "trainable_layers": 1, "num_train_epochs": 1}
    metrics = spam.main(options(tmp_path, **changes))
    before, after = load_file(trained / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    trainable = {name for name in before if name.startswith(("transformer.h.1.", "transformer.ln_f.", "score."))}
    assert moved == trainable
    assert metrics["trained_parameters"] == sum(before[name].numel() for name in trainable)


def test_it_starts_from_a_stock_gpt2(tmp_path):
    tokenizer = train_tokenizer([MESSAGES.read_text()], 400)
    config = GPT2Config(vocab_size=400, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "stock")
    tokenizer.save_pretrained(tmp_path / "stock")
    changes = {"model_name_or_path": tmp_path / "stock", "train_tokenizer": None, "num_train_epochs": 1}
    spam.main(options(tmp_path / "out", trainable_layers="head", **changes))
    stock, ours = (
        load_file(tmp_path / "stock" / "model.safetensors"),
        load_file(tmp_path / "out" / "model.safetensors"),
    )
    assert torch.equal(stock["transformer.h.1.mlp.c_fc.weight"].t(), ours["transformer.h.1.mlp.fc_in.weight"])
    assert ours["score.weight"].shape == (2, 32)


def test_the_book_protocol_states_its_leak(shared_data, tmp_path):
    changes = {"data_file": shared_data / "sms_spam" / "SMSSpamCollection", "protocol": "book", "num_train_epochs": 1}
    metrics = spam.main(options(tmp_path, **changes))
    assert metrics["sizes"] == {"train": 1045, "validation": 149, "test": 300}
    assert metrics["test_rows_with_a_near_copy_in_train"] >= 37


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_file": "missing.tsv"}, "does not exist"),
        ({"train_tokenizer": None}, "Give --model_name_or_path"),
        ({"trainable_layers": "some"}, "trainable_layers must be"),
        ({"model_name_or_path": "./nowhere", "train_tokenizer": None}, "nowhere"),
        ({"model_name_or_path": "./nowhere"}, "omit one of them"),
        ({"resume_from_checkpoint": "true"}, "no complete checkpoint"),
        ({"prefix_loss_weight": 0.5, "label_smoothing_factor": 0.1}, "cannot be combined with prefix_loss_weight"),
        ({"n_head": 5}, "n_embd (32) must be divisible by n_head (5)"),
    ],
)
def test_wrong_settings_end_in_one_sentence_and_write_no_model(changes, reason, tmp_path):
    with pytest.raises(InputError) as error:
        spam.main(options(tmp_path, **changes))
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_exit_status_and_message_of_the_script(tmp_path):
    bad = tmp_path / "bad.tsv"
    bad.write_text("ham\tfine\nspam no tab\n")
    command = [sys.executable, str(TRAINING / "finetune_spam.py"), *options(tmp_path / "out", data_file=bad)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == f"error: {bad}, line 2: there is no tab between label and message.\n"
    usage = subprocess.run([*command[:2], "--no_such_option", "1"], capture_output=True, text=True)
    assert usage.returncode == 2
    assert usage.stderr == "error: There is no option --no_such_option; --help lists the options.\n"


def test_a_full_disk_ends_in_one_sentence_and_leaves_no_model(tmp_path):
    # Files of over 100 kB cannot be written, as on a disk that fills up; the checkpoints' weights are larger.
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.argv.pop(0)"
    )
    script = str(TRAINING / "finetune_spam.py")
    command = [sys.executable, "-c", f"{limited}; runpy.run_path({script!r}, run_name='__main__')", script]
    run = subprocess.run([*command, *options(tmp_path / "out")], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out" / "config.json").exists()
