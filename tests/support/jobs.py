"""The jobs on little data and for few steps; they end before the model is saved and measured."""

import json
import random
from importlib import import_module
from pathlib import Path

import pytest
from transformers import Trainer

from hf_gpt_scratch.training.trainer import ScratchTrainer

SHAPE = {"train_tokenizer": 270, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 256, "use_cpu": True}
QUICK = {"max_steps": 2, "save_steps": 1, "save_strategy": "steps", "eval_strategy": "no", "disable_tqdm": True}


class Stopped(Exception):
    """A run ended here."""


def sentence(number: int) -> str:
    return "".join(random.Random(number).choices("abcdefgh ", k=12))


def write_data(job: str, path: Path, first: int = 0) -> Path:
    """Sentences from number `first` on, as the job reads them."""
    texts = [sentence(number) for number in range(first, first + 60)]
    if job == "instruct":
        rows = [{"instruction": text, "input": "", "output": text[::-1]} for text in texts]
        path.write_text(json.dumps(rows))
    elif job == "spam":
        path.write_text("".join(f"{('ham', 'spam')[i % 2]}\t{text}\n" for i, text in enumerate(texts)))
    else:
        path.write_text("\n".join(texts * 6))
    return path


def run(job: str, **settings) -> None:
    """Runs the job."""
    settings = {**SHAPE, **QUICK, **settings}
    words = [word for name, value in settings.items() if value is not None for word in (f"--{name}", str(value))]
    import_module(f"hf_gpt_scratch.training.{job}").main(words)


def train(job: str, **settings) -> Trainer:
    """Runs the job up to where its model would be saved; returns its trainer."""
    stopped = []

    def stop(trainer, *args):
        stopped.append(trainer)
        raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ScratchTrainer, "save_final", stop)
        run(job, **settings)
    return stopped[0]
