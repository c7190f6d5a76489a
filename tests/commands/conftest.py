"""The command line as its tests run it: in a folder of small models."""

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.cli import main
from hf_gpt_scratch.tokenizer import train_tokenizer


@pytest.fixture
def models(tiny_config, tmp_path, monkeypatch) -> None:
    """In the current folder, the models `classifier`, `lm` and `stock`, and some files that are none."""
    monkeypatch.chdir(tmp_path)
    tokenizer = train_tokenizer(["win a prize", "see you at home"] * 5, 270, model_max_length=64)
    # Weights wide enough that the probabilities lie wide apart
    tiny_config.vocab_size, tiny_config.pad_token_id, tiny_config.initializer_range = len(tokenizer), 1, 0.5
    tiny_config.id2label, tiny_config.label2id = {0: "ham", 1: "spam"}, {"ham": 0, "spam": 1}
    torch.manual_seed(0)
    for name, model_class in (("classifier", GPTScratchForSequenceClassification), ("lm", GPTScratchForCausalLM)):
        model_class(tiny_config).save_pretrained(name)
        tokenizer.save_pretrained(name)
    GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4)).save_pretrained(
        "stock"
    )
    Path("empty folder").mkdir()
    Path("messages.txt").write_text("hello\n")
    Path("cut.txt").write_bytes(b"\xff\xfea")  # UTF-16 that ends within a character


@pytest.fixture
def run(models, capsys):
    """Runs a command in the folder of the models; returns its exit status, what it printed and what it complained."""

    def run(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what making the models printed
        try:
            status = main(list(args))
        except SystemExit as bad_usage:
            status = bad_usage.code
        return status, *capsys.readouterr()

    return run
