"""What the commands that are killed work on: small models, spam filters of some steps, answers, tasks to evaluate."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import kill_training
from stand_ins import TESTS

QUESTIONS = 40


def language_model(folder: Path) -> Path:
    """A model of a few MB, so that writing it takes a while."""
    from support.models import save_model

    return save_model(folder / "model", n_embd=256, n_layer=4, n_head=4)


def small_model(folder: Path) -> Path:
    from support.models import save_model

    return save_model(folder / "model")


def stock_model(folder: Path) -> Path:
    from hf_gpt_scratch import export

    return export(language_model(folder), folder / "stock")


def spam_filters(*seeds: int) -> Callable[[Path], None]:
    """Spam filters of some steps, the folder of each named by its seed, and the messages as a table."""

    def train(folder: Path) -> None:
        import pandas as pd

        from hf_gpt_scratch.cli import main

        kill_training.messages(folder)
        os.chdir(folder)
        steps = [
            "--max_steps",
            "12",
            "--save_strategy",
            "no",
            "--eval_strategy",
            "no",
            "--load_best_model_at_end",
            "false",
        ]
        words = [
            "train",
            "spam",
            "--data_file",
            "messages.tsv",
            *kill_training.SHAPE,
            *steps,
            "--learning_rate",
            "3e-3",
        ]
        for seed in seeds:
            if main([*words, "--use_cpu", "true", "--seed", str(seed), "--output_dir", f"spam-{seed}"]):
                raise RuntimeError("The spam filter could not be trained.")
        lines = (folder / "messages.tsv").read_text(encoding="utf-8").splitlines()
        pd.DataFrame({"text": [line.partition("\t")[2] for line in lines]}).to_csv("messages.csv", index=False)

    return train


def answers(folder: Path) -> None:
    """The responses of two models to the same questions."""
    for model in "ab":
        rows = [
            {"instruction": f"Name {i}.", "input": "", "output": f"number {i}", "model_response": f"{model} {i * i}"}
            for i in range(QUESTIONS)
        ]
        (folder / f"{model}.json").write_text(json.dumps(rows), encoding="utf-8")


def tasks(folder: Path) -> None:
    """A language model, and tasks of the harness."""
    language_model(folder)
    source = TESTS / "evaluation" / "harness_tasks"
    for path in source.iterdir():
        text = path.read_text(encoding="utf-8").replace("FOLDER", str(folder))
        (folder / path.name).write_text(text, encoding="utf-8")
