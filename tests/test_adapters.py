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
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2LMHeadModel, Trainer, TrainingArguments

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification, load
from hf_gpt_scratch.adapters import merge_adapter, merged_folder
from hf_gpt_scratch.conversion.export import export
from hf_gpt_scratch.tokenizer import train_tokenizer
from hf_gpt_scratch.utils.errors import InputError
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


# What an adapter may change where the embeddings are the output head too, and whether they are one matrix afterwards
OF_TIED_MATRICES = {
    "head": ({"target_modules": ["lm_head"]}, False),
    "embeddings": ({"target_modules": ["wte"]}, False),
    "both": ({"target_modules": ["wte", "lm_head", "q_proj"]}, False),
    "embeddings, said to be tied": ({"target_modules": ["wte"], "ensure_weight_tying": True}, False),
    "head saved whole": ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
    "embeddings saved whole": ({"target_modules": ["q_proj"], "modules_to_save": ["wte"]}, False),
    "tokens": ({"target_modules": ["q_proj"], "trainable_token_indices": [3, 4]}, True),
    "neither": ({"target_modules": ["wpe", "q_proj"]}, True),
}


def random_adapter(base, folder, **settings) -> None:
    """Saves an adapter of the model `base` with random weights."""
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **settings))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.3, generator=generator)
    model.save_pretrained(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OF_TIED_MATRICES)
def test_merging_into_tied_matrices_changes_no_more_than_the_adapter(kind, base_folder, tokenizer, tmp_path):
    settings, stays_tied = OF_TIED_MATRICES[kind]
    base = base_folder(GPTScratchForCausalLM)
    random_adapter(GPTScratchForCausalLM.from_pretrained(base), tmp_path / "adapter", **settings)
    tokenizer.save_pretrained(tmp_path / "adapter")
    expected = answer(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval(), tokenizer)

    def same(model) -> None:
        torch.testing.assert_close(answer(model.eval(), tokenizer), expected, atol=1e-5, rtol=1e-5)

    loaded = load(tmp_path / "adapter")[0]
    same(loaded)
    assert loaded.config.tie_word_embeddings == stays_tied
    with merged_folder(tmp_path / "adapter") as merged:
        same(GPTScratchForCausalLM.from_pretrained(merged))
        export(merged, tmp_path / "stock")
    same(GPT2LMHeadModel.from_pretrained(tmp_path / "stock"))


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_of_tokens_and_of_one_use_of_their_matrix_is_refused(base_folder, tmp_path):
    base = base_folder(GPTScratchForCausalLM)
    settings = {"target_modules": ["lm_head"], "trainable_token_indices": {"wte": [3, 4]}}
    random_adapter(GPTScratchForCausalLM.from_pretrained(base), tmp_path / "adapter", **settings)
    with pytest.raises(InputError, match="one use of a tied matrix; use it unmerged"):
        merge_adapter(GPTScratchForCausalLM.from_pretrained(base), tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore")
def test_a_merge_that_changes_the_answers_is_refused(base_folder, tmp_path, monkeypatch):
    base = base_folder(GPTScratchForCausalLM)
    random_adapter(GPTScratchForCausalLM.from_pretrained(base), tmp_path / "adapter", target_modules=["lm_head"])
    monkeypatch.setattr("hf_gpt_scratch.adapters.untie", lambda model: None)
    with pytest.raises(InputError, match="merged, it would change the model's logits by .*; use it unmerged"):
        merge_adapter(GPTScratchForCausalLM.from_pretrained(base), tmp_path / "adapter")
