"""The pretraining script from its command line to the files it leaves."""

import json
import math
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_gpt_scratch.cli import main as hf_gpt_scratch
from hf_gpt_scratch.data.text import VERDICT_SHA256, load_text, split
from hf_gpt_scratch.training import pretrain
from hf_gpt_scratch.utils.errors import InputError
from support.clean_process import TEXT, load_elsewhere

TRAINING = Path(__file__).parents[2] / "training"
STORY = TRAINING / "demo_data" / "story.txt"
SETTINGS = {
    "data_file": STORY,
    "train_tokenizer": 400,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "eval_steps": 10,
    "save_steps": 10,
    "save_total_limit": 9,
    "logging_steps": 5,
    "sample_every": 10,
    "sample_prompt": "Tilly looked",
    "sample_tokens": 8,
    "use_cpu": True,
    "disable_tqdm": True,
}
STREAM = {"streaming": "yes", "max_steps": 30, "packing": "documents", "shuffle_buffer": 16}


def options(output_dir: Path, **changes) -> list[str]:
    settings = {**SETTINGS, "output_dir": output_dir, **changes}
    return [word for key, value in settings.items() if value is not None for word in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    pretrain.main(options(folder))
    return folder


@pytest.fixture(scope="module")
def streamed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("streamed")
    pretrain.main(options(folder, **STREAM))
    return folder


def measured(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def samples(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_it_learns_and_writes_everything(trained):
    metrics, written = measured(trained), samples(trained)
    assert metrics["train_loss"] < 5.2 < math.log(400)
    assert metrics["definitions"]["train_loss"].startswith(f"mean over steps {metrics['steps'] // 5 * 5 - 4} to ")
    assert metrics["steps"] == 2 * math.ceil(metrics["rows"]["train"] / 4)
    assert metrics["tokens_seen"] == metrics["rows"]["train"] * 64 * 2 and metrics["tokens_per_second"] > 0
    assert metrics["lowest_eval_loss"]["eval_loss"] <= metrics["eval_loss"] + 1e-9
    assert metrics["command"].removeprefix("OMP_NUM_THREADS=1 ").startswith("hf-gpt-scratch train pretrain --data")
    assert {"split", "definitions", "seed", "versions", "hardware"} <= metrics.keys()
    assert len(metrics["data"]["sha256"]) == 64
    assert [line["step"] for line in written] == [*range(0, metrics["steps"], 10), metrics["steps"]]
    assert written[1]["tokens_seen"] == 10 * 4 * 64
    assert all(line["text"].startswith("Tilly looked") and len(line["text"]) > 14 for line in written)
    with Image.open(trained / "plots" / "training.png") as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=10**6)) > 10
    assert not [path.name for path in trained.iterdir() if "partial" in path.name or path.suffix == ".bin"]


def test_perplexity_is_that_of_the_saved_model(trained):
    """Counted token by token, with windows side by side and every token but the first as a target."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    _, validation, _ = split(load_text(STORY), 0.1, False, 0)
    ids = tokenizer("".join(text for text, _ in validation.pieces()))["input_ids"] + [tokenizer.eos_token_id]
    losses = []
    for start in range(0, len(ids) - 64, 64):
        with torch.no_grad():
            logits = model(torch.tensor([ids[start : start + 64]])).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start + 1 : start + 65])).item())
    expected = sum(losses) / len(losses)
    assert measured(trained)["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert measured(trained)["perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)


def test_perplexity_of_packed_documents_is_that_of_each_alone(tmp_path):
    (tmp_path / "texts").mkdir()
    stories = STORY.read_text().split("\n\n")
    for number, story in enumerate(stories):
        (tmp_path / "texts" / f"{number:03}.txt").write_text(story)
    changes = {"data_file": tmp_path / "texts", "packing": "documents", "max_steps": 3, "validation_share": 0.3}
    metrics = pretrain.main(options(tmp_path / "out", **changes))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    content = "".join(stories)[int(0.7 * len("".join(stories))) :]
    total, targets, left = 0.0, 0, len(content)
    for story in reversed(stories):  # the validation part is the end; its first document is cut
        story, left = story[-left:] if left else "", left - min(left, len(story))
        ids = tokenizer(story)["input_ids"] + [tokenizer.eos_token_id]
        for start in range(0, len(ids) if story else 0, 64):
            part = torch.tensor([ids[start : start + 64]])
            if part.shape[1] > 1:
                with torch.no_grad():
                    logits = model(part).logits[0, :-1]
                total += torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="sum").item()
                targets += part.shape[1] - 1
    assert metrics["eval_loss"] == pytest.approx(total / targets, rel=1e-5)


@pytest.mark.parametrize(("run", "checkpoint", "changes"), [("trained", 30, {}), ("streamed", 20, STREAM)])
def test_killed_and_resumed_ends_with_the_same_weights(run, checkpoint, changes, request, tmp_path):
    """From what a killed run leaves: a checkpoint, later samples, half a line of one."""
    folder = request.getfixturevalue(run)
    shutil.copytree(folder / f"checkpoint-{checkpoint}", tmp_path / f"checkpoint-{checkpoint}")
    lines = (folder / "samples.jsonl").read_text().splitlines()[: checkpoint // 10 + 2]
    halves = (
        b'{"step": 4',
        b'{"step": 4, "text": "a}',
        b'{"step": 4, "text": "caf\xc3',
        b'{"step": "4"}',
        b"[]",
        b"{}",
    )
    (tmp_path / "samples.jsonl").write_bytes(b"\n".join([*map(str.encode, lines), *halves]))
    metrics = pretrain.main(options(tmp_path, resume_from_checkpoint="true", **changes))
    resumed, expected = load_file(tmp_path / "model.safetensors"), load_file(folder / "model.safetensors")
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert samples(tmp_path) == samples(folder)
    for key in ("train_loss", "eval_loss", "tokens_seen", "steps", "lowest_eval_loss"):
        assert metrics[key] == measured(folder)[key]


def test_a_stream_goes_on_from_a_model_and_is_bounded(streamed, tmp_path):
    metrics = measured(streamed)
    assert metrics["steps"] == 30 and metrics["rows"]["train"] is None and metrics["stride"] is None
    size = len(STORY.read_text()) // 10
    assert metrics["split"] == f"the first {size:,} characters are for validation, the rest for training"
    changes = {**STREAM, "max_steps": 2, "logging_steps": 1, "max_length": 32, "max_validation_characters": 500}
    changes |= {"model_name_or_path": streamed, "train_tokenizer": None, "packing": "windows"}
    goes_on = pretrain.main(options(tmp_path / "next", **changes))
    assert goes_on["split"].startswith("the first 500 ") and goes_on["max_length"] == 32
    assert abs(goes_on["train_loss"] - metrics["train_loss"]) < 0.5 < math.log(400) - goes_on["train_loss"]


def test_the_model_loads_where_this_package_is_not_and_generates(trained, capsys):
    tokenizer = AutoTokenizer.from_pretrained(trained)
    model = AutoModelForCausalLM.from_pretrained(trained)
    logits = model(**tokenizer(TEXT, return_tensors="pt")).logits.flatten()
    torch.testing.assert_close(load_elsewhere(trained, "AutoModelForCausalLM"), logits, atol=1e-5, rtol=1e-4)
    settings = model.generation_config
    assert settings.do_sample and settings.temperature == 0.8 and settings.top_k == 40
    # Before 5.18, transformers' Trainer makes a list of it.
    assert settings.eos_token_id in (tokenizer.eos_token_id, [tokenizer.eos_token_id]) and model.config.use_cache
    assert tokenizer.model_max_length == 64
    assert hf_gpt_scratch(["generate", str(trained), "--prompt", "Tilly looked", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("Tilly looked")


def test_the_verdict(shared_data, tmp_path):
    changes = {"data_file": shared_data / "verdict" / "the-verdict.txt", "max_steps": 1, "sample_every": 0}
    metrics = pretrain.main(options(tmp_path / "stride", stride=32, **changes))
    rows = pretrain.main(options(tmp_path / "side by side", **changes))["rows"]
    assert metrics["rows"]["train"] in (2 * rows["train"] - 1, 2 * rows["train"])
    assert metrics["rows"]["validation"] == rows["validation"]
    assert metrics["data"]["sha256"] == VERDICT_SHA256 and not samples(tmp_path / "stride")
    assert metrics["split"] == "the first 18,431 characters are for training, the rest for validation"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_file": "missing.txt"}, "does not exist"),
        ({"train_tokenizer": None}, "Give --model_name_or_path"),
        ({"tokenizer_name": "./nowhere"}, "omit one of them"),
        ({"tokenizer_name": "./nowhere", "train_tokenizer": None}, "no folder ./nowhere"),
        ({"n_head": 5}, "n_embd (32) must be divisible by n_head (5)"),
        ({"max_length": 65}, "max_length must be 2 to 64"),
        ({"stride": 65}, "stride must be 1 to 64"),
        ({"stride": 8, "packing": "documents"}, "--stride is for --packing windows"),
        ({"streaming": "yes"}, "give --max_steps"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must be at least 1"),
        ({"temperature": -1}, "temperature must be at least 0"),
        ({"include_num_input_tokens_seen": "no"}, "the number of tokens seen"),
        ({"n_positions": 4096}, "is shorter than a window of 4096 tokens"),
        ({"validation_share": 0}, "must be between 0 and 1"),
        ({"resume_from_checkpoint": "true"}, "no complete checkpoint"),
    ],
)
def test_wrong_settings_end_in_one_sentence_and_write_no_model(changes, reason, tmp_path):
    with pytest.raises(InputError) as error:
        pretrain.main(options(tmp_path, **changes))
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_exit_status_and_message_of_the_script(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty.txt").write_text("\n")
    script = str(TRAINING / "pretrain.py")
    monkeypatch.setattr(sys, "argv", [script, *options(tmp_path / "out", data_file=tmp_path / "empty.txt")])
    with pytest.raises(SystemExit) as error:
        runpy.run_path(script, run_name="__main__")
    assert error.value.code == 1
    reason = f"There is no text in {tmp_path / 'empty.txt'}; give a file or folder with text."
    assert capsys.readouterr().err.strip() == f"error: {reason}"
