"""The judge's command, as its tests run it, and small runs of the spam script to be measured."""

import argparse
from pathlib import Path

import pytest

from hf_gpt_scratch.commands import judge
from hf_gpt_scratch.evaluation.judge import endpoint as judges
from hf_gpt_scratch.training import spam
from hf_gpt_scratch.utils.errors import run_reporting_errors
from support.judge_server import SCORES, rows, write

TRAINING = Path(__file__).parents[2] / "training"
MESSAGES = Path(__file__).parents[1] / "support" / "messages.tsv"
SETTINGS = {
    "data_file": MESSAGES,
    "train_tokenizer": 500,
    "n_embd": 32,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 128,
    "num_train_epochs": 6,
    "per_device_train_batch_size": 16,
    "learning_rate": 3e-3,
    "word_dropout": 0.1,
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "load_best_model_at_end": False,
}


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs the command; returns its exit status and what it printed on stdout and stderr."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # it would stand in the recorded command

    def run(*args) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        judge.add_arguments(parser)
        argv = [str(arg) for arg in args]
        parsed = parser.parse_args(argv, argparse.Namespace(argv=["judge", *argv]))
        capsys.readouterr()
        return run_reporting_errors(lambda: judge.check(parsed) or judge.run(parsed)), *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def spam_runs(tmp_path_factory) -> dict[str, Path]:
    """The folders of two runs of the grouped protocol, `1` and `2`, and of one of the book's, `book`."""
    folder = tmp_path_factory.mktemp("spam_runs")
    for name, changes in {"1": {"seed": 1}, "2": {"seed": 2}, "book": {"protocol": "book"}}.items():
        settings = {**SETTINGS, "output_dir": folder / name, **changes}
        spam.main([word for key, value in settings.items() for word in (f"--{key}", str(value))])
    return {name: folder / name for name in ("1", "2", "book")}


@pytest.fixture(scope="session")
def spam_messages() -> Path:
    return MESSAGES


@pytest.fixture
def without_keys(monkeypatch):
    """No key of the user's, and no long waits before a request is sent again."""
    monkeypatch.setattr(judges, "BACK_OFF", 0.01)
    for name in ("OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def responses(tmp_path) -> Path:
    return write(tmp_path / "responses.json", rows([f"worth {score}" for score in SCORES]))


@pytest.fixture
def two_files(tmp_path) -> tuple[Path, Path]:
    a, b = ["long answer", "longer", "x", "same", "yes indeed"], ["short", "long", "longest", "also", "no"]
    return write(tmp_path / "a.json", rows(a)), write(tmp_path / "b.json", rows(b))
