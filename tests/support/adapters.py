"""Adapters of random weights on a small language model."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification

from .jobs import sentence
from .models import save_model, save_tokenizer

TEXTS = [sentence(number) for number in range(60)]
ADAPTED = {"CAUSAL_LM": GPTScratchForCausalLM, "SEQ_CLS": GPTScratchForSequenceClassification}


def save_adapters(folder: Path) -> Path:
    """Saves a language model as `base`, and an adapter of each task, by its name; the classifier has four labels."""
    base = save_model(folder / "base", texts=TEXTS, tokens=270, n_embd=8, n_head=1, n_positions=256)
    for task, model_class in ADAPTED.items():
        labels = {"num_labels": 4} if task == "SEQ_CLS" else {}
        model = model_class.from_pretrained(base, **labels)
        model = get_peft_model(model, LoraConfig(task_type=task, target_modules="all-linear", r=2))
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.2, generator=generator)
        model.save_pretrained(folder / task)
        save_tokenizer(folder / task, TEXTS, 270)
    return folder
