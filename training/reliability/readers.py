"""
Lied to: each reader of files gets thousands of files that lie, drawn by hypothesis with a seed. A reader may raise
`InputError` (or `UsageError`), in one sentence, or read the file; anything else is lost: a traceback, a process that
ends, more than `SECONDS` or `MEMORY`.

Each reader runs in a process of its own. It needs a system that can fork.
"""

import gc
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import shortcuts
from faults import Row, Settings
from lies import Lie, lies, tell

TRIES, QUICK = 10_000, 12
SECONDS = 20  # of one reading, on an idle core
WAITED = 6  # times as many on one that others use too
MEMORY = 4 * 2**30  # bytes that a reader may take
# Seconds of one reader, QUICK_BUDGET with --quick; fewer files are tried where they do not suffice
BUDGET = int(os.environ.get("SECONDS_A_READER", 1800))
QUICK_BUDGET = 1
AT_ONCE = int(os.environ.get("READERS_AT_ONCE", 2))  # processes


class TooLong(BaseException):
    """A reading took more than `SECONDS`; no reader catches it."""


def rows(settings: Settings) -> Iterator[Row]:
    """A row for each reader."""
    from messages import READERS as MESSAGES
    from model_readers import READERS as MODELS
    from reader_subjects import READERS as DATA

    readers = {name: reader for name, reader in (DATA | MODELS | MESSAGES).items() if settings.of(name)}
    load_everything()
    wait = list(readers.items())
    running: dict = {}
    context = multiprocessing.get_context("fork")
    while wait or running:
        while wait and len(running) < AT_ONCE:
            name, reader = wait.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            folder = settings.folder / "".join(c if c.isalnum() else "_" for c in name)
            process = context.Process(target=_child, args=(sender, name, reader, folder, settings))
            process.start()
            sender.close()
            running[name] = process, receiver
        for name in [
            name for name, (process, receiver) in running.items() if receiver.poll(0.1) or not process.is_alive()
        ]:
            process, receiver = running.pop(name)
            try:
                yield receiver.recv()
            except EOFError:
                process.join()
                yield Row("lied to", name, 1, 0, 1, note=f"the process ended with status {process.exitcode}")
            process.join()


def load_everything() -> None:
    """Imports what the readers need, once, before the processes fork."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import torch

    torch.set_num_threads(1)
    import hf_gpt_scratch
    from hf_gpt_scratch import cli  # noqa: F401
    from hf_gpt_scratch.utils.terminal import quieten_transformers

    hf_gpt_scratch.register()
    quieten_transformers()
    from hf_gpt_scratch.apps import classify  # noqa: F401
    from hf_gpt_scratch.hub import check, model_card  # noqa: F401

    shortcuts.take()
    _given(lambda lie: None, 1, 0)  # hypothesis looks at Unicode once, for seconds


def _child(sender, name: str, reader, folder: Path, settings: Settings) -> None:
    os.setsid()
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    if not os.environ.get("SHOW_LOST"):
        os.dup2(devnull, 2)
    sender.send(attempt(name, reader, folder, settings))
    sender.close()
    os._exit(0)  # without the clean-up of libraries that know nothing of the fork


def attempt(name: str, reader, folder: Path, settings: Settings) -> Row:
    """Reads lie after lie."""
    folder.mkdir(parents=True, exist_ok=True)
    reader.make(folder)
    shortcuts.forget()
    reader.read(folder)  # what is valid is read, and everything is loaded
    content = (folder / reader.file).read_bytes()
    limit = settings.tries or (QUICK if settings.quick else TRIES)
    found: Counter = Counter()
    lost: Counter = Counter()
    ends = time.monotonic() + (QUICK_BUDGET if settings.quick and not settings.tries else BUDGET)
    _limit_memory()
    gc.freeze()  # the packages, which would be looked through again and again

    def lie_and_read(lie: Lie) -> None:
        if time.monotonic() > ends:
            return
        fault = read_lie(reader, folder, tell(lie, content, reader.form))
        found["lost" if fault else "survived"] += 1
        if fault:
            lost[fault] += 1
            if lost[fault] == 1 and os.environ.get("SHOW_LOST"):
                print(f"{name}: {fault}\n  {lie!r:.300}", file=sys.stderr)

    _given(lie_and_read, limit, settings.seed)
    shutil.rmtree(folder, ignore_errors=True)
    tries = found.total()
    note = f"as many as {BUDGET} s allow" if tries < limit and not settings.quick and time.monotonic() > ends else ""
    if lost:
        note = "; ".join(f"{count} x {fault}" for fault, count in lost.most_common(3))[:300]
    return Row("lied to", name, tries, found["survived"], found["lost"], note=note)


def _given(check: Callable[[Lie], None], examples: int, number: int) -> None:
    """Calls `check` with so many lies."""
    from hypothesis import HealthCheck, Phase, given, seed
    from hypothesis import settings as rules

    rule = rules(
        **{"max_examples": examples, "database": None, "deadline": None, "phases": [Phase.generate]},
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(rule(given(lies())(check)))()


def read_lie(reader, folder: Path, content: bytes) -> str | None:
    """What is wrong with how the reader takes a file of this content; `None` for nothing."""
    from hf_gpt_scratch.utils.errors import InputError

    (folder / reader.file).write_bytes(content)
    timers = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, WAITED * SECONDS)}
    before = {number: signal.signal(number, _too_long) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    try:
        reader.read(folder)
    except InputError as error:
        return "a sentence of several lines" if "\n" in str(error) else None
    except SystemExit as ended:  # argparse's, after a sentence on stderr
        return None if ended.code == 2 else f"exit {ended.code}"
    except BaseException as error:  # a panic in Rust is no Exception
        return _named(error)
    finally:
        for timer, (number, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
        if reader.fresh:
            shutil.rmtree(folder / reader.fresh, ignore_errors=True)
    return None


def _too_long(number: int, frame) -> None:
    raise TooLong


def _named(error: BaseException) -> str:
    """The type of an error, and the last place in this package that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "hf_gpt_scratch/" in frame.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return (
        f"{type(error).__name__} at {place}: {str(error)[:80]!r}"
        if os.environ.get("SHOW_LOST")
        else f"{type(error).__name__} at {place}"
    )


def _limit_memory() -> None:
    """No more than `MEMORY` beyond what is taken already."""
    taken = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if os.path.exists("/proc") else 0
    )
    if taken:
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
