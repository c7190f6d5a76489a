"""Loads saved models where this package cannot be imported."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

TEXT = "the lamp on the hill"

# Importing the package fails in this process, as where it is not installed.
CLEAN_PROCESS = """
import json, sys
sys.modules["hf_gpt_scratch"] = None
import torch, transformers
answers = []
for folder, auto_class, resave in json.loads(sys.argv[1]):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    if auto_class.startswith("AutoPeft"):
        import peft
        model = getattr(peft, auto_class).from_pretrained(folder, trust_remote_code=True)
        base = model.get_base_model()
    else:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
        assert config.model_type == "gpt_scratch", config.model_type
        model = base = getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True)
    assert type(base).__module__.startswith("transformers_modules."), type(base)
    if resave:
        model.save_pretrained(resave)
        tokenizer.save_pretrained(resave)
    outputs = model(**tokenizer("TEXT", return_tensors="pt"))
    values = outputs.last_hidden_state if auto_class == "AutoModel" else outputs.logits
    answers.append(values.flatten().tolist())
print(json.dumps(answers))
""".replace("TEXT", TEXT)


def load_all_elsewhere(jobs: Sequence[tuple[Path, str, Path | str]]) -> list[torch.Tensor]:
    """What each model answers to TEXT in one clean process, flattened; the jobs are `load_elsewhere`'s arguments."""
    command = [sys.executable, "-c", CLEAN_PROCESS, json.dumps([[str(word) for word in job] for job in jobs])]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.tensor(values) for values in json.loads(run.stdout.strip().splitlines()[-1])]


def load_elsewhere(folder: Path, auto_class: str, resave: Path | str = "") -> torch.Tensor:
    """What the model in `folder` answers to TEXT in a clean process, which saves it again in `resave`."""
    return load_all_elsewhere([(folder, auto_class, resave)])[0]
