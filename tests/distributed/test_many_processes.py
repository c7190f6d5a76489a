"""Training on two processes is training on one: the same losses, and a saved folder that loads anywhere."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hf_gpt_scratch
from hf_gpt_scratch import GPTScratchForCausalLM
from hf_gpt_scratch.model_folder.contents import CODE_FILES
from hf_gpt_scratch.tokenizer import train_tokenizer
from support import distributed_train as train
from support.clean_process import TEXT, load_all_elsewhere

CONFIGS = train.TRAINING / "configs" / "accelerate"
ACCELERATE = "accelerate.commands.launch", "--main_process_port", "0", "--num_processes", "2", "--config_file"
LAUNCHERS = {
    "ddp": [*ACCELERATE, CONFIGS / "ddp.yaml"],
    "fsdp2": [*ACCELERATE, CONFIGS / "fsdp2.yaml"],
    "tp": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "zero2": [*ACCELERATE, CONFIGS / "deepspeed_zero2.yaml"],
}
KINDS = {
    "ddp": ("MULTI_CPU", False),
    "fsdp2": ("FSDP", True),
    "tp": ("MULTI_GPU", True),
    "zero2": ("DEEPSPEED", False),
}
MODES = ["ddp", "fsdp2", "tp", "zero2"]
pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("many_processes")


@pytest.fixture(scope="module")
def start(folder) -> Path:
    """A language model with tied embeddings, and a vocabulary that two processes cannot share evenly."""
    tokenizer = train_tokenizer([TEXT] * 5, 300)
    assert len(tokenizer) % 2
    config = hf_gpt_scratch.GPTScratchConfig(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        loss_chunk_size=16,
    )
    torch.manual_seed(0)
    for part in (GPTScratchForCausalLM(config), tokenizer):
        part.save_pretrained(folder / "start")
    return folder / "start"


@pytest.fixture(scope="module")
def single(start, folder) -> Path:
    train.main(str(start), str(folder / "single"), "single", ["causal", "sequence", "spam"])
    return folder / "single"


@pytest.fixture(scope="module")
def run(start, folder):
    """Runs all jobs of a mode, once, and returns their folder."""

    def run(mode: str) -> Path:
        if mode == "zero2" and importlib.util.find_spec("deepspeed") is None:
            pytest.skip("deepspeed is not installed")
        if not (folder / mode).exists():
            command = [sys.executable, "-m", *LAUNCHERS[mode], train.__file__, start, folder / mode, mode]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
            launched = subprocess.run(
                list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300
            )
            assert launched.returncode == 0, launched.stderr[-6000:]
        return folder / mode

    return run


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("mode", MODES)
def test_losses_are_those_of_one_process(mode, run, single):
    expected, found = report(single), report(run(mode))
    for job in set(found) - {"spam"}:
        assert len(set(expected[job]["losses"])) == train.STEPS
        assert found[job]["losses"] == pytest.approx(expected[job]["losses"], abs=1e-5)
        assert (found[job]["kind"], found[job]["sharded"]) == KINDS[mode]
        assert found[job]["class"].startswith("transformers_modules.")  # as for one who never installed the package
    if "spam" in found:
        assert found["spam"]["confusion_matrix"] == expected["spam"]["confusion_matrix"]
        assert found["spam"]["parameters"] == expected["spam"]["parameters"]


def test_what_is_saved_loads_where_the_package_is_not_installed(run, single, folder):
    source = Path(hf_gpt_scratch.__file__).parent
    loads = []
    for mode in ["ddp", "fsdp2", "tp", *(["zero2"] if (folder / "zero2").exists() else [])]:
        for job in report(run(mode)):
            for name in [""] if job == "spam" else ["model", f"checkpoint-{train.STEPS}"]:
                found, expected = folder / mode / job / name, single / job / name
                assert json.loads((found / "config.json").read_text()) == json.loads(
                    (expected / "config.json").read_text()
                )
                code = {path.name for path in found.glob("*.py")} - {"zero_to_fp32.py", "zero_to_torch.py"}
                assert code == set(CODE_FILES)
                assert all((found / file).read_bytes() == (source / file).read_bytes() for file in code)
                auto_class = "AutoModelForCausalLM" if job == "causal" else "AutoModelForSequenceClassification"
                loads += [(found, auto_class, ""), (expected, auto_class, "")]
    answers = load_all_elsewhere(loads)
    for found, expected in zip(answers[::2], answers[1::2]):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
