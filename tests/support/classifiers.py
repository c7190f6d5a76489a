"""Small classifiers with random weights, whose probabilities differ from text to text."""

from pathlib import Path

import torch

from hf_gpt_scratch import GPTScratchConfig, GPTScratchForSequenceClassification, TextClassifier
from hf_gpt_scratch.tokenizer import train_tokenizer

TEXTS = [
    "win a free prize now",
    "see you at home",
    "the invoice of May is wrong",
    "my parcel has not come",
    "héllo  there 😀 friend",
]
TOPICS = ("billing", "delivery", "login", "other")


def make_classifier(names=TOPICS, seed: int = 0, **settings) -> TextClassifier:
    """A classifier of these labels; `settings` are those of its configuration."""
    tokenizer = train_tokenizer(TEXTS * 5, 300)
    shape = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(seed)
    config = GPTScratchConfig(vocab_size=len(tokenizer), **{**shape, **labels, **special, **settings})
    return TextClassifier(GPTScratchForSequenceClassification(config), tokenizer)


def save_classifier(folder: Path, names=TOPICS, **settings) -> Path:
    """Its model and tokenizer, saved."""
    classifier = make_classifier(names, **settings)
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder
