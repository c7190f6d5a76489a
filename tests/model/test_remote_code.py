"""A saved model works where this package is not installed, however it was saved."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

import hf_gpt_scratch
from hf_gpt_scratch import GPTScratchConfig
from hf_gpt_scratch.model_folder.contents import CODE_FILES
from hf_gpt_scratch.tokenizer import train_tokenizer
from support.clean_process import TEXT, load_all_elsewhere, load_elsewhere

STANDARD = ("bisect", "collections", "dataclasses", "math", "re")
AUTO_CLASSES = {
    "GPTScratchModel": "AutoModel",
    "GPTScratchForCausalLM": "AutoModelForCausalLM",
    "GPTScratchForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTScratchForTokenClassification": "AutoModelForTokenClassification",
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT] * 5, 300)


def make(architecture: str, config, tokenizer):
    torch.manual_seed(0)
    config.vocab_size = len(tokenizer)
    return getattr(hf_gpt_scratch, architecture)(config).eval()


def answer(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(TEXT, return_tensors="pt"))[0].flatten()


@pytest.fixture(scope="module")
def saved_twice(tmp_path_factory, tokenizer) -> dict[str, tuple]:
    """By architecture: the folder it was saved in, that of a clean process, and the answers of all three."""
    folder, expected = tmp_path_factory.mktemp("saved"), {}
    for architecture in AUTO_CLASSES:
        config = GPTScratchConfig(n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
        model = make(architecture, config, tokenizer)
        model.save_pretrained(folder / f"{architecture}-first")
        tokenizer.save_pretrained(folder / f"{architecture}-first")
        expected[architecture] = answer(model, tokenizer)
    first = [(folder / f"{name}-first", auto, folder / f"{name}-second") for name, auto in AUTO_CLASSES.items()]
    second = [(again, auto_class, "") for _, auto_class, again in first]
    answers = zip(expected.values(), load_all_elsewhere(first), load_all_elsewhere(second))
    return {name: (job[0], job[2], *found) for name, job, found in zip(AUTO_CLASSES, first, answers)}


@pytest.mark.parametrize("architecture", AUTO_CLASSES)
def test_saved_and_saved_again_by_a_clean_process(architecture, saved_twice):
    first_folder, second_folder, expected, first, second = saved_twice[architecture]
    torch.testing.assert_close(first, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(second, expected, atol=1e-6, rtol=0)
    for name in CODE_FILES:
        assert (second_folder / name).read_text() == (first_folder / name).read_text()
    config = json.loads((second_folder / "config.json").read_text())
    assert config["auto_map"] == json.loads((first_folder / "config.json").read_text())["auto_map"]
    assert len(config["auto_map"]) == 5


def test_a_folder_loads_as_every_class_its_auto_map_names(tiny_config, tokenizer, tmp_path):
    make("GPTScratchForCausalLM", tiny_config, tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    answers = load_all_elsewhere([(tmp_path, auto_class, "") for auto_class in AUTO_CLASSES.values()])
    assert len(answers) == len(AUTO_CLASSES) and all(values.isfinite().all() for values in answers)


def test_a_trainer_checkpoint_loads(tiny_config, tokenizer, tmp_path):
    model = make("GPTScratchForCausalLM", tiny_config, tokenizer)
    ids = tokenizer(TEXT)["input_ids"]
    arguments = TrainingArguments(output_dir=tmp_path, max_steps=2, save_steps=2, report_to="none", use_cpu=True)
    data = Dataset.from_dict({"input_ids": [ids] * 8, "labels": [ids] * 8})
    Trainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer).train()
    result = load_elsewhere(tmp_path / "checkpoint-2", "AutoModelForCausalLM")
    torch.testing.assert_close(result, answer(model.eval(), tokenizer), atol=1e-6, rtol=0)


def test_without_trust_nothing_of_the_folder_runs(tiny_config, tokenizer, tmp_path):
    make("GPTScratchForCausalLM", tiny_config, tokenizer).save_pretrained(tmp_path)
    (tmp_path / "modeling_gpt_scratch.py").write_text("print('the code ran')")
    program = (
        "import sys; sys.modules['hf_gpt_scratch'] = None\nfrom transformers import AutoModelForCausalLM\n"
        f"AutoModelForCausalLM.from_pretrained({str(tmp_path)!r}, trust_remote_code=False)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode != 0
    assert "trust_remote_code" in run.stderr
    assert "the code ran" not in run.stdout


@pytest.mark.parametrize("name", CODE_FILES)
def test_the_files_that_travel_import_only_torch_transformers_and_each_other(name):
    source = (Path(hf_gpt_scratch.__file__).parent / name).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= {*STANDARD, "torch"}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                assert node.level == 1 and f"{node.module}.py" in CODE_FILES
            else:
                assert node.module.split(".")[0] in (*STANDARD, "torch", "transformers")
