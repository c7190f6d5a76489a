"""
Makes small models of every kind with the old version, which is first on PYTHONPATH; run as a script by the test.

    PYTHONPATH=OLD python make_folders.py OLD OUT

OUT then holds a folder a model, and `logits.safetensors`: what the old version computes with each of them.
"""

import importlib
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import save_file

OLD, OUT = Path(sys.argv[1]), Path(sys.argv[2])
DATA = OLD / "training" / "demo_data"
SETTINGS = {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 4, "seed": 1}
CAUSAL, SEQUENCE = "GPTScratchForCausalLM", "GPTScratchForSequenceClassification"
MODELS = {"writer": CAUSAL, "follower": CAUSAL, "adapter": CAUSAL, "spam": SEQUENCE, "calibrated": SEQUENCE}


def train(script: str, folder: str, **settings) -> None:
    settings |= {**SETTINGS, "output_dir": OUT / folder}
    importlib.import_module(script).main(
        [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    )


def main() -> None:
    import hf_gpt_scratch
    from hf_gpt_scratch import modeling_gpt_scratch, pretrained
    from hf_gpt_scratch.evaluation import calibration
    from hf_gpt_scratch.prompts import render_prompt
    from hf_gpt_scratch.tokenizer import train_tokenizer

    assert Path(hf_gpt_scratch.__file__).is_relative_to(OLD), f"{hf_gpt_scratch.__file__} is not the old version"
    sys.path.insert(0, str(OLD / "training"))
    story = DATA / "story.txt"
    prompt = render_prompt("What is the opposite of hot?")
    texts = [story.read_text(encoding="utf-8"), *[prompt] * 9]
    train_tokenizer(texts, 600, model_max_length=256).save_pretrained(OUT / "tokenizer")
    shape = {"n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 4}
    train("pretrain", "writer", data_file=story, tokenizer_name=OUT / "tokenizer", max_steps=5, **shape)
    instructions = {"data_file": DATA / "instructions.json", "model_name_or_path": OUT / "writer", "max_new_tokens": 8}
    train("finetune_instruct", "follower", max_steps=5, **instructions)
    train("finetune_instruct", "adapter", max_steps=5, lora_r=4, learning_rate=0.1, **instructions)
    messages = {"data_file": DATA / "messages.tsv"}
    for folder in ("spam", "calibrated"):
        train("finetune_spam", folder, train_tokenizer=500, max_steps=10, learning_rate=2e-3, **shape, **messages)
    calibration.main([str(OUT / "calibrated"), "--data_file", str(messages["data_file"]), "--precision", "0.5"])

    ids, logits = torch.arange(2, 42)[None], {}
    for folder, name in MODELS.items():
        model = pretrained.load_pretrained(getattr(modeling_gpt_scratch, name), OUT / folder).eval()
        with torch.no_grad():
            logits[folder] = model(ids).logits.contiguous()
    save_file(logits, OUT / "logits.safetensors")


if __name__ == "__main__":
    main()
