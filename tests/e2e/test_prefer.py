"""Preferences to a trained model, from the command line to the files: full and LoRA, resumed, and what is refused."""

import errno
import importlib.util
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from datasets.fingerprint import get_temporary_cache_files_directory
from safetensors.torch import load_file

from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.evaluation.responses import read_pairs
from hf_gpt_scratch.model_folder.contents import ModelFolder
from hf_gpt_scratch.prompts import CHAT_TEMPLATE, render_prompt
from hf_gpt_scratch.training import prefer
from hf_gpt_scratch.utils import requirements
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.result_card import read_cards
from support.commands import run_command
from support.models import save_model

needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="pip install -e '.[trl]'")
THINGS = ("lamp", "hill", "boat", "sea", "hat")
ROWS = [
    {"prompt": f"Name the {thing}, number {n}.", "chosen": thing, "rejected": f"It is the {thing} on the {thing}."}
    for thing in THINGS
    for n in range(8)
]
SETTINGS = {
    "num_train_epochs": 2,
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "max_new_tokens": 8,
    "answered_rows": 3,
    "use_cpu": True,
    "disable_tqdm": True,
}


def test_bad_rows_of_a_hub_set_are_dropped_unless_told_otherwise(monkeypatch):
    asked = []
    monkeypatch.setattr(prefer.preferences, "load_preferences", lambda *args: asked.append(args[-1]) or 1 / 0)
    for given in ({"data_file": "x"}, {"dataset_name": "x"}, {"dataset_name": "x", "bad_rows": "fail"}):
        with pytest.raises(ZeroDivisionError):
            prefer.read_data(prefer.PreferArguments(**given), 0)
    assert asked == ["fail", "drop", "fail"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A follower that answers at random, and preferences for short answers."""
    home = tmp_path_factory.mktemp("home")
    texts = [render_prompt(row["prompt"]) + row["rejected"] for row in ROWS]
    save_model(home / "follower", texts=texts, tokens=330, chat=CHAT_TEMPLATE, n_positions=128)
    (home / "prefs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return home


@pytest.fixture(scope="module")
def run(home):
    """Runs the job into a folder, with `SETTINGS` changed, and returns its metrics."""

    def main(output_dir: Path, **changes) -> dict:
        settings = {"model_name_or_path": home / "follower", "data_file": home / "prefs.jsonl", **SETTINGS}
        settings |= {"output_dir": output_dir, **changes}
        return prefer.main(
            [word for key, value in settings.items() if value is not None for word in (f"--{key}", str(value))]
        )

    return main


@pytest.fixture(scope="module")
def trained(run, home) -> Path:
    run(home / "preferred", save_total_limit=9)
    return home / "preferred"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@needs_trl
def test_it_learns_what_was_chosen_and_writes_everything(trained, home):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["sizes"] == {"train": 32, "validation": 4, "test": 4} and metrics["beta"] == 0.1
    assert metrics["reward_accuracy"] == 1 and metrics["reward_margin_interval"][0] > 0
    assert metrics["dpo_loss"] < math.log(2) - 0.05 and metrics["chosen_reward"] > metrics["rejected_reward"]
    before, after = weights(home / "follower"), weights(trained)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    card = read_cards(trained)["prefer"]
    assert card.metrics["reward_accuracy"].interval[0] > 0.3 and card.baselines["before"]["dpo_loss"].value > 0.69
    assert [a["output"] for a, _ in read_pairs(trained / "responses.json", trained / "responses_before.json")] == [
        row["output"] for row in json.loads((trained / "responses.json").read_text())
    ]
    assert len(json.loads((trained / "responses.json").read_text())) == 3 == metrics["answered_rows"]
    assert (trained / "plots" / "training.png").is_file() and not (trained / "README.md").exists()
    assert (trained / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    assert not [path.name for path in trained.iterdir() if "partial" in path.name or path.suffix == ".bin"]


@needs_trl
def test_the_numbers_are_those_of_trl(trained):
    """Which reads log-probabilities through a head of its own, and not through ours."""
    states = [json.loads(path.read_text()) for path in trained.glob("checkpoint-*/trainer_state.json")]
    state = max(states, key=lambda state: state["global_step"])
    [best] = [entry for entry in state["log_history"] if entry.get("eval_loss") == state["best_metric"]]
    own = json.loads((trained / "metrics.json").read_text())["validation"]
    assert own["dpo_loss"] == pytest.approx(best["eval_loss"], rel=1e-4)
    assert own["reward_margin"] == pytest.approx(best["eval_rewards/margins"], rel=1e-3)
    assert own["reward_accuracy"] == pytest.approx(best["eval_accuracy"])


@needs_trl
def test_a_resumed_run_ends_with_the_same_weights_and_refuses_other_settings(run, trained, home, tmp_path):
    first = min(trained.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    shutil.copytree(first, tmp_path / "out" / first.name)
    resumed = {"resume_from_checkpoint": "true"}
    with pytest.raises(InputError, match=r"with another beta \(0.1, here 0.3\)"):
        run(tmp_path / "out", **resumed, beta=0.3)
    save_model(tmp_path / "other", seed=1, texts=["x"], tokens=330, chat=CHAT_TEMPLATE, n_positions=128)
    for file in (home / "follower").glob("*token*"):
        shutil.copy(file, tmp_path / "other")
    config = json.loads((home / "follower" / "config.json").read_text())
    shutil.copy(home / "follower" / "config.json", tmp_path / "other")
    GPTScratchForCausalLM(GPTScratchForCausalLM.config_class(**config)).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="with another reference_model"):
        run(tmp_path / "out", **resumed, model_name_or_path=tmp_path / "other")
    run(tmp_path / "out", **resumed)
    expected, found = weights(trained), weights(tmp_path / "out")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@needs_trl
def test_trl_tells_nobody_of_a_run(run, tmp_path, monkeypatch):
    from trl.trainer import base_trainer

    monkeypatch.setattr(base_trainer, "send_telemetry", lambda *_, **__: pytest.fail("It is told."))
    run(tmp_path / "out", max_steps=1)


@needs_trl
def test_an_adapter_is_trained_alone_and_merged_on_demand(run, home, tmp_path):
    lora = {"lora_r": 4, "num_train_epochs": 1, "save_strategy": "no", "load_best_model_at_end": False}
    metrics = run(tmp_path / "adapter", **lora)
    assert metrics["method"] == "LoRA tuning by DPO" and metrics["reward_margin"] > 0
    assert metrics["trained_parameters"] * 5 < metrics["parameters"]
    folder = ModelFolder.read(tmp_path / "adapter")
    assert folder.is_adapter and Path(folder.base) == home / "follower"
    assert not [path for path in (tmp_path / "adapter").iterdir() if path.is_dir() and path.name == "ref"]
    merged = run(tmp_path / "merged", **lora, merge_adapter=True)
    assert merged["reward_margin"] == pytest.approx(metrics["reward_margin"], rel=1e-3)
    assert ModelFolder.read(tmp_path / "merged").is_native


@needs_trl
def test_what_cannot_be_trained_is_told(run, home, tmp_path):
    save_model(tmp_path / "writer")
    for changes, error, message in (
        ({"model_name_or_path": tmp_path / "writer"}, InputError, "no chat template.*train instruct"),
        ({"model_name_or_path": None}, UsageError, "give it with --model_name_or_path"),
        ({"data_file": None}, UsageError, "Give the preferences with --data_file.*--export-preferences"),
        ({"beta": 0}, UsageError, "beta must be above 0"),
        ({"max_length": 1000}, UsageError, "max_length must be 8 to 128"),
        ({"merge_adapter": True}, UsageError, "--merge_adapter needs --lora_r"),
        ({"loss_type": "nosuch"}, UsageError, "TRL has no loss_type 'nosuch'; choose among sigmoid, "),
        ({"sync_ref_model": True}, UsageError, "The settings cannot be used"),
    ):
        with pytest.raises(error, match=message):
            run(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*"))


@needs_trl
def test_full_disk_is_not_taken_for_wrong_settings(run, tmp_path, monkeypatch):
    """datasets then closes a file twice, which is a ValueError."""

    def write(*args, **kwargs):
        with open(tmp_path / "rows", "wb") as rows:
            rows.close()
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                rows.write(b"")

    monkeypatch.setattr(prefer, "trainer_class", lambda: write)
    with pytest.raises(OSError, match="No space left on device") as told:
        run(tmp_path / "out")
    assert told.value.filename == get_temporary_cache_files_directory()


def test_without_trl_the_command_says_what_to_install(home, tmp_path, monkeypatch):
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package trl: pip install -c constraints.txt -e '\.\[trl\]'"):
        run_command("train", "prefer", "--data_file", home / "prefs.jsonl", "--output_dir", tmp_path / "out")
