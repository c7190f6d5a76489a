"""
Plants a canary, code that leaves a file where it runs, in every place of a folder or a file that could be run, and
gives it to the commands. A try is survived where the canary did not run, and the command did its work or refused in
one sentence. That the canaries live is tried, too: each must run with `--trust-remote-code`, where that is for it, and
in a program that takes no care.

The places are those of `foreign_places.py` and `foreign_data.py`, the same as in SECURITY.md.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import foreign_kit
import forks
import stand_ins
from faults import Row, Settings
from foreign_kit import TRACE, Place, Words
from foreign_places import PLACES
from forks import Ended, Fork
from stand_ins import CleanProcesses

QUICK = 2  # commands of each place
LONGEST = 240  # seconds of a run, which on a busy machine may take ten times as long as on an idle one


def rows(settings: Settings) -> Iterator[Row]:
    """A row for each place."""
    forks.warm_up("peft", "hf_gpt_scratch.pretrained", "hf_gpt_scratch.hub.check", "hf_gpt_scratch.training.pretrain")
    kit = settings.folder / "kit"
    kit.mkdir()
    ended = Fork(lambda: foreign_kit.make_kit(kit), kit, settings.folder / "kit.log").end()
    if ended.status:
        raise RuntimeError(f"The models could not be made:\n{ended.said[-3000:]}")
    stand_ins.START = LONGEST
    processes = CleanProcesses(Path(tempfile.mkdtemp(prefix="clean.")))
    for place in PLACES:
        if settings.of(place.name):
            yield tried(place, settings, kit, processes)


def tried(place: Place, settings: Settings, kit: Path, processes: CleanProcesses) -> Row:
    """All commands on the place, and those that may run the canary."""
    commands = place.commands[: QUICK if settings.quick else None]
    trusting = [*place.careless, *place.trusting[: 1 if settings.quick else None]]
    survived, executed, faults = 0, 0, []
    for words in [*commands, *trusting]:
        folder = settings.folder / "try"
        shutil.copytree(kit, folder, symlinks=True)
        place.plant(folder)
        ended = run(place, words, folder, processes)
        has_run, is_trusted = (folder / TRACE).exists(), words in trusting
        fault = None if is_trusted else wrong(ended)
        if has_run != is_trusted:
            fault = "the canary ran" if has_run else f"the canary should have run ({ended.last_line[:200]})"
        executed += has_run and not is_trusted
        survived += fault is None
        if fault:
            name = words.__name__ if callable(words) else " ".join(words)
            faults.append(f"{name[:80]}: {fault}")
            print(f"  {place.name}: {faults[-1]}\n{ended.said[-1500:]}", file=sys.stderr, flush=True)
        shutil.rmtree(folder)
    tries = len(commands) + len(trusting)
    careless = len(place.careless)
    named = [f"{len(trusting) - careless} with --trust-remote-code"] if place.trusting else []
    if careless:
        named.append(
            "1 by a program that takes no care" if careless == 1 else f"{careless} by programs that take no care"
        )
    note = f"in {' and '.join(named)} it must run, and does" if named and not faults else ""
    return Row("foreign code", place.name, tries, survived, 0, executed, "; ".join(faults[:1]) or note)


def run(place: Place, words: Words, folder: Path, processes: CleanProcesses) -> Ended:
    """A command in the folder; where the place is the folder itself, as a user starts it."""
    if place.is_real and not callable(words):
        return started(words, folder)
    return Fork(partial(command, place, words, processes), folder, folder.parent / "try.log").end(LONGEST)


def command(place: Place, words: Words, processes: CleanProcesses) -> int:
    """In the fork: the command, its clean processes forks of a ready one."""
    from hf_gpt_scratch.cli import main
    from hf_gpt_scratch.model_folder import clean_process

    clean_process.subprocess = processes
    os.environ["HF_TOKEN"] = "hf_" + "a1" * 17
    place.prepare()
    return words() if callable(words) else main(list(words))


def started(words: Words, folder: Path) -> Ended:
    """The command in a process that Python starts in that folder."""
    import subprocess
    import time

    root = str(Path(__file__).parents[2])
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hf_gpt_scratch", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    return Ended(done.returncode, time.monotonic() - began, done.stdout + done.stderr)


def wrong(ended: Ended) -> str | None:
    """What is wrong with how a command ended: it neither did its work nor refused in one sentence."""
    if ended.has_traceback:
        return f"a traceback: {ended.last_line[:300]}"
    errors = [line for line in ended.said.splitlines() if "error: " in line]
    if ended.status not in (0, 1, 2):
        return f"exit status {ended.status}: {ended.last_line[:300]}"
    if ended.status and len(errors) != 1:
        return f"{len(errors)} sentences: {ended.last_line[:300]}"
    return None
