"""Requests in threads that neither outlast their time nor keep the process alive."""

import queue
import threading
from collections.abc import Callable, Iterator

from .answers import NoAnswer


def within(seconds: float, function: Callable[[], object]):
    """
    What `function` returns or raises, or `TimeoutError`. httpx2's own times start anew with every byte that comes, and
    do not count the search for the host's address. What is given up ends by those, in its thread.
    """
    done = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((function(), None))
        except BaseException as error:  # raised below
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value


def in_parallel(function: Callable[[str], object], keys: list[str], workers: int) -> Iterator[tuple[str, object]]:
    """
    Yields each key and what `function` returns for it, as they come; a new one begins when one was taken, so that none
    does after the last. The threads are daemons: those of a ThreadPoolExecutor would keep the process alive after
    Ctrl-C until the last request is answered or timed out.
    """
    waiting, done = queue.SimpleQueue(), queue.SimpleQueue()

    def work() -> None:
        while (key := waiting.get()) is not None:
            try:
                done.put((key, function(key)))
            except BaseException as error:  # raised below, where the run can see it
                done.put((key, error))

    workers = min(workers, len(keys))
    for key in keys[:workers]:
        waiting.put(key)
    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    try:
        for number in range(len(keys)):
            key, outcome = _get(done)
            if isinstance(outcome, BaseException) and not isinstance(outcome, NoAnswer):
                raise outcome
            yield key, outcome
            if number + workers < len(keys):
                waiting.put(keys[number + workers])
    finally:
        for _ in range(workers):
            waiting.put(None)


def _get(done: queue.SimpleQueue) -> tuple[str, object]:
    while True:
        try:
            return done.get(timeout=1)  # a wait without an end would not notice Ctrl-C on Windows
        except queue.Empty:
            continue
