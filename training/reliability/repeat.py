"""
Trains with one seed again and again, and compares all that a run writes, weights to the byte: in one process after the
other, with other numbers of processes that load the data, and with other hash seeds (`PYTHONHASHSEED`).

The runs are those of `JOBS`, some seconds each. Run as a program, this trains some of them: so a process begins with
a hash seed of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import forks
from faults import Row, Settings
from forks import LONGEST, Fork
from kill_training import ANSWERS, LONGER, MODULES, SHAPE, TIMES, instructions, messages, of_steps, story, tickets
from kill_training import differs as runs_differ

TOLD = (*TIMES, "command", "hash_seed")  # what two such runs may say differently
TRIES = 3  # of each comparison; with as many workers, and hash seeds


@dataclass(frozen=True)
class Job:
    """
    Attributes:
        words: of the command, given the folder of `inputs`.
        inputs: makes what it reads.
    """

    words: Callable[[Path], Sequence]
    inputs: Callable[[Path], None]


def documents(folder: Path) -> None:
    """The Verdict as a data set, a row a line."""
    story(folder)
    lines = (folder / "story.txt").read_text(encoding="utf-8").splitlines()
    (folder / "rows").mkdir(exist_ok=True)
    rows = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    (folder / "rows" / "train.jsonl").write_text(rows, encoding="utf-8")


def of(*options) -> list:
    """Nine steps, with checkpoints."""
    return [*options, *of_steps(9, 3), "--dropout", "0.1"]


PRETRAIN = ("train", "pretrain", *SHAPE, "--sample_every", "6", "--sample_tokens", "8")
STREAMED = ("--streaming", "yes", "--shuffle_buffer", "20", "--max_validation_characters", "2000")
SPAM = ("train", "spam", *SHAPE, "--word_dropout", "0.3", "--per_device_train_batch_size", "16")
CLASSIFY = ("train", "classify", *SHAPE, "--word_dropout", "0.2", "--per_device_train_batch_size", "16")
INSTRUCT = ("train", "instruct", *LONGER, *ANSWERS)
JOBS = {
    "train pretrain": Job(lambda at: of(*PRETRAIN, "--data_file", at / "story.txt"), story),
    "train pretrain, streamed": Job(lambda at: of(*PRETRAIN, *STREAMED, "--data_file", at / "story.txt"), story),
    "train pretrain, data set": Job(
        lambda at: of(*PRETRAIN, *STREAMED, "--packing", "documents", "--dataset_name", at / "rows"), documents
    ),
    "train spam": Job(lambda at: of(*SPAM, "--data_file", at / "messages.tsv"), messages),
    "train classify": Job(lambda at: of(*CLASSIFY, "--data_file", at / "tickets.csv"), tickets),
    "train instruct": Job(lambda at: of(*INSTRUCT, "--data_file", at / "instructions.json"), instructions),
}


def rows(settings: Settings) -> Iterator[Row]:
    """A row for each comparison and job."""
    names, folder = [name for name in JOBS if settings.of(name)], settings.folder
    if not names:
        return
    inputs, first = folder / "inputs", folder / "first"
    inputs.mkdir(parents=True)
    for name in names:
        JOBS[name].inputs(inputs)
    forks.warm_up(*MODULES)
    if failed := train(names, inputs, first):
        raise RuntimeError(f"The first runs fail: {failed}")
    for fault, ways in comparisons(settings.tries or (1 if settings.quick else TRIES)).items():
        found = {name: [] for name in names}
        for number, way in enumerate(ways):
            again = folder / f"{fault.replace(' ', '-')}-{number}"
            failed = way(names, inputs, again)
            for name in names:
                wrong = failed.get(name) or differences(first / name, again / name)
                found[name] += [wrong] if wrong else []
        for name, wrongs in found.items():
            note = wrongs[0] if wrongs else ""
            yield Row(fault, name, len(ways), len(ways) - len(wrongs), len(wrongs), note=note)


def comparisons(tries: int) -> dict[str, list[Callable]]:
    """By its name, the ways to train that must end as the first runs did."""
    return {
        "the same seed": [train] * tries,
        "workers that load the data": [partial(train, workers=2 - number % 2) for number in range(tries)],
        "another PYTHONHASHSEED": [partial(train_apart, hash_seed=1 + number) for number in range(max(2, tries))],
    }


def train(names: Sequence[str], inputs: Path, folder: Path, workers: int = 0) -> dict[str, str]:
    """Trains the jobs of these names, each in a folder of its name; says which failed, and how."""
    from hf_gpt_scratch import cli

    failed = {}
    for name in names:
        (folder / name).mkdir(parents=True)
        words = [str(word) for word in (*JOBS[name].words(inputs), "--dataloader_num_workers", workers)]
        ended = Fork(partial(cli.main, words), folder / name, folder / f"{name}.log").end()
        if ended.status or ended.has_traceback:
            failed[name] = f"exit status {ended.status}: {ended.last_line[:300]}"
    return failed


def train_apart(names: Sequence[str], inputs: Path, folder: Path, hash_seed: int) -> dict[str, str]:
    """The same in a process that begins with this hash seed."""
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, __file__, str(inputs), str(folder), *names]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST * len(names))
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    return json.loads(ended.stdout.splitlines()[-1])


def differences(one: Path, other: Path) -> str:
    """Where the outputs of two runs differ."""
    found = runs_differ(one, other, TOLD)
    return f"differs in {', '.join(found[:4])}" if found else ""


def main(inputs: str, folder: str, *names: str) -> None:
    forks.warm_up(*MODULES)
    print(json.dumps(train(names, Path(inputs), Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
