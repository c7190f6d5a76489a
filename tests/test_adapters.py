"""LoRA and QLoRA adapters by PEFT: trained, saved, loaded and merged like those of any transformers model."""

import copy
import json

import pytest
import torch
from datasets import Dataset
from peft import (
    AutoPeftModelForCausalLM,
    AutoPeftModelForSequenceClassification,
    LoraConfig,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification
from hf_gpt_scratch.tokenizer import train_tokenizer
from support.clean_process import TEXT, load_elsewhere

HEADS = {
    "CAUSAL_LM": (GPTScratchForCausalLM, AutoPeftModelForCausalLM, "AutoModelForCausalLM"),
    "SEQ_CLS": (
        GPTScratchForSequenceClassification,
        AutoPeftModelForSequenceClassification,
        "AutoModelForSequenceClassification",
    ),
}
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "fc_in", "fc_out"}


@pytest.fixture
def tokenizer():
    return train_tokenizer([TEXT] * 5, 300)


@pytest.fixture
def base_folder(tiny_config, tokenizer, tmp_path):
    """Saves a base model of a class and returns its folder."""

    def save(model_class):
        tiny_config.vocab_size, tiny_config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
        torch.manual_seed(0)
        model_class(tiny_config).save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return save


def train_adapter(base, task: str, tokenizer, folder):
    """Trains LoRA on every linear layer of `base` with Trainer, saves it in `folder` and returns the PEFT model."""
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(task_type=task, target_modules="all-linear", r=4, lora_alpha=32))
    before = copy.deepcopy(model.state_dict())
    ids = tokenizer(TEXT)["input_ids"]
    data = Dataset.from_dict({"input_ids": [ids] * 8, "labels": [ids if task == "CAUSAL_LM" else 1] * 8})
    arguments = TrainingArguments(folder, max_steps=3, learning_rate=1e-2, report_to="none", use_cpu=True)
    trainer = Trainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in trained), name
    return model.eval()


def answer(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(TEXT, return_tensors="pt")).logits.flatten()


@pytest.mark.parametrize("task", HEADS)
def test_lora_is_trained_saved_loaded_and_merged(task, base_folder, tokenizer, tmp_path):
    model_class, auto_peft_class, auto_class = HEADS[task]
    folder = base_folder(model_class)
    base = model_class.from_pretrained(folder)
    without_adapter = answer(base.eval(), tokenizer)
    model = train_adapter(base, task, tokenizer, tmp_path / "adapter")
    expected = answer(model, tokenizer)
    assert not torch.allclose(expected, without_adapter, atol=1e-2)

    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == PROJECTIONS  # not the head
    assert not list((tmp_path / "adapter").glob("*.py"))  # the code comes with the base model
    loaded = auto_peft_class.from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(answer(loaded, tokenizer), expected, atol=1e-6, rtol=0)
    elsewhere = load_elsewhere(tmp_path / "adapter", auto_peft_class.__name__)
    torch.testing.assert_close(elsewhere, expected, atol=1e-6, rtol=0)

    loaded.merge_and_unload().save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    merged = load_elsewhere(tmp_path / "merged", auto_class)
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=0)


def test_training_with_lora_keeps_the_chunked_loss(base_folder, tokenizer):
    base = GPTScratchForCausalLM.from_pretrained(base_folder(GPTScratchForCausalLM))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")).train()
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    assert model(input_ids=ids, labels=ids).logits is None


def test_qlora_trains_adapters_on_four_bit_weights(tiny_config, base_folder, tokenizer, tmp_path):
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    tiny_config.n_embd = 64  # bitsandbytes rounds blocks of 64 weights
    folder = base_folder(GPTScratchForCausalLM)
    base = AutoModelForCausalLM.from_pretrained(folder, quantization_config=four_bits)
    assert base.transformer.h[0].attn.q_proj.weight.dtype == torch.uint8
    base = prepare_model_for_kbit_training(base)
    model = train_adapter(base, "CAUSAL_LM", tokenizer, tmp_path / "adapter")
    expected = answer(model, tokenizer)
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter", quantization_config=four_bits).eval()
    torch.testing.assert_close(answer(loaded, tokenizer), expected, atol=1e-5, rtol=0)
    # The same adapter on the full-precision base: near, but not the same, as its weights were rounded to 4 bits.
    on_full = answer(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval(), tokenizer)
    assert 0 < (on_full - expected).abs().max() < 0.5
