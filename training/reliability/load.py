"""
Puts the pages under load: 50 users at a time, readers and senders that are slow on purpose, Ctrl-C while many ask, and
requests that no page should serve.

Every answer is compared with the one that a single user got to the same question. An answer that does not come is
lost, and so is one that is another's; so is a page whose memory grows by more than 5 % after it is warm.
"""

import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from faults import Row, Settings
from load_client import Answer, Client, Page, Slow
from load_refusals import refusals
from load_subjects import SUBJECTS, Subject

USERS, SECONDS, WARM = 50, 120, 20  # WARM: seconds after which memory is measured
GROWTH = 0.05  # of memory that is allowed
SLOW = 90  # connections
ENDING = 5.0  # seconds
# Each run with its own limit of requests off, as all users have one address.
OPTIONS = ["--rate", "0", "--device", "cpu"]


def rows(settings: Settings) -> Iterator[Row]:
    for make in SUBJECTS:
        subject = make()
        if not settings.of(subject.name):
            continue
        folder = settings.folder / subject.name.replace(" ", "-")
        command = subject.make(folder)
        command += OPTIONS[:2] if command[0] == "compare" else OPTIONS
        with Page(command, folder / "log") as page:
            yield crowd(subject, page, settings)
            if command[0] != "compare":
                yield slow(subject, page, settings)
        if command[0] != "compare":
            yield interrupted(subject, command, folder / "log", settings)
    if settings.of("refusals"):
        yield from refusals(settings)


@dataclass
class Told:
    """What users were told, counted."""

    asked: int = 0
    equal: int = 0
    mixed: int = 0
    errors: list[str] = field(default_factory=list)
    longest_queue: int = 0
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: Answer, expected: str | None) -> None:
        with self.lock:
            self.asked += 1
            self.equal += answer.data is not None and answer.data == expected
            self.mixed += answer.data is not None and answer.data != expected
            if answer.data is None:
                self.errors.append(answer.error or "no answer")
            self.longest_queue = max([self.longest_queue, *(length for _, length in answer.places)])
            self.seconds.append(answer.seconds)


def use(
    subject: Subject, page: Page, users: int, seconds: float, seed: int, told: Told, idle=lambda second: None
) -> float:
    """
    So many users for so many seconds; what each does last is still counted. `idle` is called each half second, with
    the seconds so far. Returns how many it took in the end.
    """
    first = Client(page.address)
    clients = [Client(page.address, first) for _ in range(users)]
    begun = time.monotonic()
    end = begun + seconds

    def user(number: int) -> None:
        chance, client = random.Random(seed * 1000 + number), clients[number]
        while time.monotonic() < end:
            with client.tab():
                for answer, expected in subject.tab(client, number, chance):
                    told.add(answer, expected)
                    if time.monotonic() > end:
                        break

    with ThreadPoolExecutor(users) as pool:
        running = [pool.submit(user, number) for number in range(users)]
        while not all(one.done() for one in running):
            idle(time.monotonic() - begun)
            time.sleep(0.5)
        for one in running:
            one.result()
    return time.monotonic() - begun


def crowd(subject: Subject, page: Page, settings: Settings) -> Row:
    """50 users at a time, for two minutes."""
    seconds, warm = (8, 4) if settings.quick else (SECONDS, WARM)
    subject.prepare(Client(page.address), USERS)
    told, memory = Told(), []
    took = use(
        subject, page, USERS, seconds, settings.seed, told, lambda second: memory.append((second, page.memory()))
    )
    before = statistics.median([size for second, size in memory if second <= warm][-5:])
    after = [size for second, size in memory if second > warm]
    peak, end = max(after) / before - 1, after[-1] / before - 1
    grew = not settings.quick and peak > GROWTH
    note = f"{told.asked / took:.0f} answers a second; memory {end:+.1%} in the end, {peak:+.1%} at most, of"
    note += f" {before:.0f} MB; the queue said up to {told.longest_queue}"
    note += f"; {told.mixed} mixed up" if told.mixed else ""
    note += f"; {told.errors[0]}" if told.errors else ""
    lost = told.mixed + len(told.errors) + grew
    return Row(f"{USERS} users for {seconds} s", subject.name, told.asked, told.equal, lost, note=note)


def slow(subject: Subject, page: Page, settings: Settings) -> Row:
    """Five users while many connections send, or read, a byte a second: everyone is answered, and the slow are cut."""
    seconds = 6 if settings.quick else 40
    alone, beside = Told(), Told()
    use(subject, page, 5, 3, settings.seed, alone)
    connections = [Slow(page.port, Slow.KINDS[i % 3]) for i in range(SLOW)]
    try:
        next_step = [time.monotonic()]

        def step(second: float) -> None:
            if time.monotonic() >= next_step[0]:
                next_step[0] += 1
                for one in connections:
                    one.step()

        use(subject, page, 5, seconds, settings.seed, beside, step)
    finally:
        for one in connections:
            one.close()
    senders = [one for one in connections if one.kind != "reader"]
    cut = [one.cut_after for one in senders if one.is_cut]
    late = max(beside.seconds) > max(2.0, 5 * max(alone.seconds))
    held = 0 if settings.quick else len(senders) - len(cut)
    note = f"{SLOW} slow connections; an answer after {statistics.median(beside.seconds):.2f} s, without them"
    note += f" {statistics.median(alone.seconds):.2f} s"
    note += f"; {len(cut)} of {len(senders)} senders cut after {max(cut):.0f} s at most" if cut else ""
    lost = beside.asked - beside.equal + late + held
    return Row("slow readers and senders", subject.name, beside.asked, beside.equal, lost, note=note)


def interrupted(subject: Subject, command: list, log: Path, settings: Settings) -> Row:
    """Ctrl-C, and SIGTERM, while 20 users ask: what was begun is finished, the others are told, all in 5 s."""
    tries = settings.tries or (1 if settings.quick else 4)
    asked = finished = refused = lost = 0
    longest = 0.0
    for number in range(tries):
        kind = signal.SIGTERM if number % 2 else signal.SIGINT
        with Page(command, log) as page:
            answers, (status, seconds) = _interrupt(subject, page, kind, settings.seed + number)
        longest = max(longest, seconds)
        asked += len(answers)
        equal = [answer for answer, expected in answers if answer.data is not None and answer.data == expected]
        told = [
            answer for answer, _ in answers if answer.data is None and not answer.begun and "closing" in answer.error
        ]
        finished, refused = finished + len(equal), refused + len(told)
        lost += len(answers) - len(equal) - len(told) + (status != 128 + kind) + (seconds > ENDING)
    note = f"{finished} finished, {refused} told that there is no answer; ended after {longest:.1f} s at most"
    return Row("Ctrl-C or SIGTERM, 20 users", subject.name, asked, finished + refused, lost, note=note)


def _interrupt(subject: Subject, page: Page, kind: int, seed: int) -> tuple[list, tuple[int, float]]:
    """The answers under way at the signal, each with what the single user got; the exit status and the seconds."""
    under_way, sent, first = [], threading.Event(), Client(page.address)

    def user(number: int) -> None:
        chance, client = random.Random(seed * 1000 + number), Client(page.address, first)
        while not sent.is_set():
            for answer, expected in subject.tab(client, number, chance):
                if sent.is_set():
                    if answer.error != "ConnectError":  # asked when the page was no longer there
                        under_way.append((answer, expected))
                    return

    with ThreadPoolExecutor(20) as pool:
        running = [pool.submit(user, number) for number in range(20)]
        time.sleep(2 + random.Random(seed).random())
        sent.set()
        ended = page.end(kind)
        for one in running:
            one.result()
    return under_way, ended
