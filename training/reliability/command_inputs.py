"""
What the commands that are killed or starved work on: small models, spam filters of some steps, answers, tasks to
evaluate, archives in place of npm's.
"""

import errno
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import kill_training
from stand_ins import TESTS

QUESTIONS = 40
# What the export to ONNX imports late
TO_ONNX = ("torch.onnx._internal.exporter._core", "torch._dynamo", "onnxscript", "hf_gpt_scratch.conversion.onnx")


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
    harness_tasks(folder)


def harness_tasks(folder: Path) -> None:
    source = TESTS / "evaluation" / "harness_tasks"
    for path in source.iterdir():
        text = path.read_text(encoding="utf-8").replace("FOLDER", str(folder))
        (folder / path.name).write_text(text, encoding="utf-8")


def few_tasks() -> None:
    """In this process, of the harness's 15,000 tasks none is indexed, but those of `--include_path`."""
    from lm_eval import tasks as harness

    manager = harness.TaskManager
    harness.TaskManager = lambda include_path=None, **_: manager(include_path=include_path, include_defaults=False)


def npm_archives() -> None:
    """In this process, archives of our own come in place of npm's, which fails as npm does where there is no room."""
    from hf_gpt_scratch.apps import npm

    names = {name for package in (npm.ONNXRUNTIME, npm.TOKENIZERS, npm.JINJA) for name in package.files.values()}

    def pack(command: list[str], cwd: Path, **options) -> subprocess.CompletedProcess:
        try:
            with tarfile.open(cwd / "package.tgz", "w") as archive:
                for name in (*names, "LICENSE"):
                    entry = tarfile.TarInfo(f"package/{name}")
                    entry.size = len(name)
                    archive.addfile(entry, io.BytesIO(name.encode()))
        except OSError as error:
            return subprocess.CompletedProcess(command, 228, "", f"npm error code {errno.errorcode[error.errno]}\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    npm.subprocess = SimpleNamespace(run=pack, TimeoutExpired=subprocess.TimeoutExpired)
    npm._check, npm.require_npm = lambda package, archive: None, lambda: ["npm"]
