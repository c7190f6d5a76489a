"""
Kills each training job and each command that writes at random moments of its run, by SIGKILL, and repeats the same
command, once: all must then be as after a run that nobody killed.

The subjects are those of the modules in `MODULES`, each with `SUBJECTS`. The moments are spread over a whole run,
saving and publishing included; every third try is killed once more while it is repeated.
"""

import importlib
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import forks
from faults import Row, Settings
from forks import Ended, Fork
from kill_subject import Subject

MODULES = ("kill_training", "kill_runs", "kill_commands", "kill_pages", "kill_sources")
TRIES, QUICK = 20, 2
ORPHANED = 20  # seconds that what a killed run had started may go on


def subjects() -> list[Subject]:
    """Those of all modules."""
    return [subject for name in MODULES for subject in importlib.import_module(name).SUBJECTS]


def rows(settings: Settings) -> Iterator[Row]:
    """A row for each subject, and those of the modules' own faults (`rows(settings)`)."""
    forks.warm_up()
    for subject in subjects():
        if settings.of(subject.name):
            yield killed(subject, settings)
    for name in MODULES:
        if hasattr(module := importlib.import_module(name), "rows"):
            yield from module.rows(settings)


class Bench:
    """The folders of a subject's tries, in a new one below `place`, and the run that nobody kills, in `whole`."""

    def __init__(self, subject: Subject, place: Path):
        place.mkdir(parents=True, exist_ok=True)
        # A short name: the sockets of processes that load data are below it, whose paths have 107 bytes at most
        self.subject, self.folder = subject, Path(tempfile.mkdtemp(prefix=f"{subject.name.split()[0]}-", dir=place))
        self.inputs = self.folder / "inputs"
        for module in subject.modules:
            importlib.import_module(module)
        forks.freeze()
        self.inputs.mkdir()
        subject.inputs(self.inputs)
        self.whole = self.new("whole")
        # The first one in this process imports what is imported late; the second takes as long as those to come
        for _ in range(2):
            shutil.rmtree(self.whole)
            self.new("whole")
            ended = self.start(self.whole).end()
            if ended.status:
                raise RuntimeError(f"{subject.name} fails by itself:\n{ended.said[-3000:]}")
        self.seconds = ended.seconds
        self.late = 0  # signals that came when a run had all but ended

    def new(self, name: str) -> Path:
        """A folder for a try, prepared."""
        folder = self.folder / name
        folder.mkdir()
        self.subject.prepare(folder)
        return folder

    def start(self, folder: Path) -> Fork:
        """The command begins, in a folder."""
        from hf_gpt_scratch import cli

        words = [str(word) for word in self.subject.words(self.inputs)]
        return Fork(partial(self.subject.run or cli.main, words), folder, folder.with_suffix(".log"))

    def fault(self, folder: Path, ended: Ended) -> str | None:
        """What is wrong after the last run of a try; `None` where nothing is."""
        is_done = self.subject.done is not None and self.subject.done in ended.last_line
        if ended.has_traceback or (ended.status and not is_done):
            return f"exit status {ended.status}: {ended.last_line[:300]}"
        if different := self.subject.differs(self.whole, folder):
            return f"differs in {', '.join(different[:4])}"
        return None


def killed(subject: Subject, settings: Settings) -> Row:
    """Kills the subject at moments spread over its run, and repeats it."""
    tries = settings.tries or (QUICK if settings.quick else TRIES)
    bench, draw, faults = (
        Bench(subject, settings.folder),
        random.Random(settings.seed),
        [],
    )
    for number in range(tries):
        moment = (number + draw.random()) / tries * bench.seconds
        again = draw.random() * bench.seconds if number % 3 == 2 else None
        folder = bench.new(f"try-{number}")
        fault = try_once(bench, folder, [moment] if again is None else [moment, again])
        if fault:
            faults.append(fault)
            print(f"  killed after {moment:.2f} of {bench.seconds:.2f} s: {fault}", flush=True)
        else:
            shutil.rmtree(folder)
    note = f"at moments spread over its {bench.seconds:.1f} s" + (f"; {faults[0]}" if faults else "")
    return Row("killed", subject.name, tries, tries - len(faults), len(faults), note=note)


def try_once(bench: Bench, folder: Path, moments: list[float]) -> str | None:
    """Kills the command at the moments, each in a run of its own; repeats it once; says what is wrong."""
    runs = []
    for moment in moments:
        runs.append(run := bench.start(folder))
        run.wait(moment)
        run.send(signal.SIGKILL, to_all=not bench.subject.alone)
        # torch's processes that load data may print one when nobody listens any more
        if (ended := run.end()).has_traceback and not bench.subject.alone:
            return f"a traceback: {ended.last_line[:300]}"
    runs.append(run := bench.start(folder))
    ended = run.end()
    if left := [name for run in runs for name in run.orphans(ORPHANED)]:
        return f"{len(left)} processes still run: {left[0][:200]}"
    return bench.fault(folder, ended)
