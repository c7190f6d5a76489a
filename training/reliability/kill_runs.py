"""
Training jobs as subjects of `kill` that start processes or talk to the Hub: workers that load the data, a text that is
streamed, pushes of checkpoints and of the model.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import kill_training
from faults import Row, Settings
from kill_commands import (
    REPOSITORY,
    clean_processes,
    in_own_place,
    left_over,
    pushed_differ,
    start_hub,
    with_hub,
)
from kill_subject import Subject, nothing

WORKERS = ("--dataloader_num_workers", "2")
TO_HUB = ("--push_to_hub", "true", "--hub_model_id", REPOSITORY, "--hub_strategy", "every_save")


def with_workers(words: Callable) -> Callable[[Path], Sequence]:
    return lambda inputs: [*words(inputs), *WORKERS]


def streamed(inputs: Path) -> Sequence:
    """A text that is read as it is trained on, in an order that is shuffled a little."""
    options = ["--streaming", "yes", "--shuffle_buffer", "20", "--max_validation_characters", "2000"]
    return [*kill_training.pretrain(inputs), *options]


def pushed(inputs: Path) -> Sequence:
    """By epochs; each checkpoint is pushed, and at last the model with its card."""
    return [*kill_training.classify(inputs), *TO_HUB]


def merged(inputs: Path) -> Sequence:
    """An adapter that is trained, and then made part of the model."""
    return [*kill_training.lora(inputs), "--merge_adapter", "true"]


def differs(whole: Path, tried: Path) -> list[str]:
    """As of other jobs, and nothing is left in the folder for temporary files."""
    return [*kill_training.differs(whole, tried), *left_over(tried)]


def pushed_differs(whole: Path, tried: Path) -> list[str]:
    """Neither the folder differs nor what is in the repository."""
    return [*kill_training.differs(whole, tried), *pushed_differ(whole, tried, branches=("main",))]


def job(name: str, words: Callable, inputs: Callable, prepare: Callable = nothing, **more) -> Subject:
    def prepared(folder: Path) -> None:
        clean_processes()  # in the process that is forked, for all tries
        prepare(folder)

    settings = {"differs": differs, "run": in_own_place, "modules": kill_training.MODULES} | more
    return Subject(name, words, prepare=prepared, inputs=inputs, **settings)


SPAM = job("train spam, 2 workers", with_workers(kill_training.spam), kill_training.messages, alone=True)
SUBJECTS = [
    SPAM,
    job("train pretrain, streamed, 2 workers", with_workers(streamed), kill_training.story, alone=True),
    job("train classify, pushed", pushed, kill_training.tickets, start_hub, differs=pushed_differs, run=with_hub),
    job("train instruct, LoRA, merged", merged, kill_training.follower),
]

# A terminal sends Ctrl-C to all processes of a command; a scheduler or systemd SIGTERM to all of a job
FAULTS = {
    "SIGTERM to all its processes": (kill_training.signalled(signal.SIGTERM, 143, to_all=True), 10),
    "Ctrl-C to all its processes": (kill_training.signalled(signal.SIGINT, 130, to_all=True), 10),
}


def rows(settings: Settings) -> Iterator[Row]:
    """A row for each of `FAULTS`, of the job with workers."""
    yield from kill_training.rows_of(SPAM, FAULTS, settings)
