"""
How a page's server lives: how long a connection may be slow, what it keeps of those who left, and how it ends. What is
Gradio's or uvicorn's own here, under their private names, is in no other file.
"""

import asyncio
import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ..utils.errors import InputError, Terminated
from .guard import CLOSING, SENTENCES, Guard

RUNNING, WAITING = 8, 100  # answers made at a time, and questions that may wait for theirs
THREADS = 12  # that answer; each that runs torch has helpers and memory of its own
SESSIONS = 1_000  # open tabs whose state is kept
LEFT, MANY, LEFT_OF_MANY = 120, 200, 10  # seconds after which that of a closed tab is forgotten; where there are many
TIDYING = 10  # seconds from one look at what can be forgotten to the next
CONNECTIONS, OF_ONE = 1_000, 400  # open at a time: of all, and of one address beyond this machine
STEP, HEADERS_WITHIN, TAKEN_WITHIN = 5.0, 15.0, 120.0  # seconds: between looks, for a request's head, for an answer
FINISHING, ENDING = 3.0, 4.8  # seconds after Ctrl-C: for answers that were begun, and for everything
REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
closing = threading.Event()  # set when what is still being answered is to stop


def bound_memory() -> None:
    """
    glibc gives threads heaps of their own, up to eight a core, that keep what they once had; two are enough here.
    Nothing elsewhere.
    """
    if mallopt := _glibc("mallopt"):
        mallopt(-8, 2)  # M_ARENA_MAX


def _glibc(name: str):
    """A function of glibc, `None` with other libraries of C."""
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name) if sys.platform == "linux" else None
    except (OSError, AttributeError):
        return None


def limit(blocks) -> None:
    """Sets the limits of a page's queue, and what is said of questions that no page asks; before it is launched."""
    from gradio import Error

    blocks.queue(api_open=False, max_size=WAITING, default_concurrency_limit=1)
    preprocess = blocks.preprocess_data

    async def preprocess_quietly(*args, **options):
        try:
            return await preprocess(*args, **options)
        except Error as error:  # for whoever asked
            error.print_exception = False
            raise
        except (ValueError, TypeError):  # which quote what was sent
            raise Error(SENTENCES[400], print_exception=False) from None

    blocks.preprocess_data = preprocess_quietly


def slim(app) -> None:
    """
    Gradio keeps a description of the whole page, and what was shown last, with each tab's state, for links to a state,
    which no page gives; that is most of what a tab costs.
    """
    from gradio.state_holder import StateHolder

    class Slim(StateHolder):
        """States of tabs without the description."""

        def __getitem__(self, session: str):
            is_new = session not in self
            state = super().__getitem__(session)
            if is_new:
                state.config_values = {}
                state._update_config = state._update_value_in_config = lambda *of: None
            return state

    app.state_holder = Slim()
    app.state_holder.set_blocks(app.get_blocks())


def watch(server) -> None:
    """Ends slow connections of a uvicorn server that runs; it takes no web sockets, which no page needs."""
    config = server.config
    config.http_protocol_class = timed(config.http_protocol_class)
    config.ws_protocol_class = None
    config.limit_concurrency = CONNECTIONS
    config.timeout_graceful_shutdown = 1


def timed(protocol: type) -> type:
    """A protocol of uvicorn's with limits of time and number."""

    class Timed(protocol):
        """A connection that does not say within seconds what it wants, or does not take what it asked for, is cut."""

        _timer = None

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._seen, self._idle, self._full = None, 0.0, 0.0
            if too_many(self.client, self.connections):
                transport.abort()
            else:
                self._timer = self.loop.call_later(STEP, self._look)

        def connection_lost(self, exc) -> None:
            if self._timer:
                self._timer.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            is_busy = self.cycle is not None and not self.cycle.response_complete
            is_other, self._seen = self.cycle is not self._seen, self.cycle
            self._idle = 0.0 if is_busy or is_other else self._idle + STEP
            self._full = self._full + STEP if self.transport.get_write_buffer_size() else 0.0
            if self._idle >= HEADERS_WITHIN:
                self.transport.write(REQUEST_TIMEOUT)
                self.loop.call_later(1, self.transport.abort)
            elif self._full >= TAKEN_WITHIN:
                self.transport.abort()
            else:
                self._timer = self.loop.call_later(STEP, self._look)

    return Timed


def too_many(client, connections) -> bool:
    """Whether a connection is one more than all, or its address, may have; a proxy on this machine speaks for many."""
    host = client[0] if client else ""
    if len(connections) > CONNECTIONS:
        return True
    is_here = host.startswith("127.") or host in ("::1", "")
    return not is_here and sum(one.client is not None and one.client[0] == host for one in connections) > OF_ONE


async def tidy(blocks, guard: Guard) -> None:
    """Forgets, again and again, what Gradio keeps of tabs that were closed, and gives memory back to the system."""
    trim = _glibc("malloc_trim")
    while blocks.is_running:
        await asyncio.sleep(TIDYING)
        forget(blocks, guard)
        if trim:
            await asyncio.to_thread(trim, 0)


def forget(blocks, guard: Guard) -> int:
    """Forgets the sessions without an open tab that nobody has used for a while; returns how many are left."""
    holder, queue = blocks.app.state_holder, blocks._queue
    latest = time.time() - (LEFT if len(holder.session_data) <= MANY else LEFT_OF_MANY)
    for session, used in list(holder.time_last_used.items()):
        if session not in guard.open_tabs and used.timestamp() < latest:
            holder.delete_state(session)
            with holder.lock:
                holder.session_data.pop(session, None)
                holder.time_last_used.pop(session, None)
    for session, events in list(queue.pending_event_ids_session.items()):
        if not events and session not in guard.open_tabs and session not in holder.session_data:
            queue.pending_event_ids_session.pop(session, None)
            queue.pending_messages_per_session.pop(session, None)
    blocks.app.iterators_to_reset.intersection_update(blocks.app.iterators)
    return len(holder.session_data)


def still_open(iterable):
    """The items of an iterable; raises `InputError` once the page has no more time for them."""
    for item in iterable:
        if closing.is_set():
            raise InputError("The page was closed before this was finished.")
        yield item


def run(blocks, guard: Guard, clean: Callable[[], object]) -> None:
    """
    Waits for Ctrl-C or SIGTERM. Then no more questions are taken, those that wait are told so, answers that were begun
    are finished, within `FINISHING` seconds, and the server ends. A second Ctrl-C ends it at once.

    Args:
        clean: removes what users have uploaded, where the process must be ended within a call that does not return.

    Raises:
        KeyboardInterrupt: in the end; after SIGTERM `Terminated`.
    """
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in numbers}
    if guard.loop:
        asyncio.run_coroutine_threadsafe(tidy(blocks, guard), guard.loop)
    while not came and blocks.is_running:
        time.sleep(0.05)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    is_sigterm = came[:1] == [signal.SIGTERM]
    last = threading.Timer(ENDING, _end, [clean, 143 if is_sigterm else 130])
    last.daemon = True
    last.start()
    close(blocks, guard)
    gc.freeze()  # the interpreter's end would look through all that the libraries hold, for seconds
    if not any(
        one.is_alive() and not one.daemon for one in threading.enumerate() if one is not threading.main_thread()
    ):
        last.cancel()
    raise (Terminated if is_sigterm else KeyboardInterrupt)("The page is closed.")


def close(blocks, guard: Guard, finishing: float = FINISHING) -> None:
    """Ends a page's server as `run` says."""
    guard.closing = True
    if guard.loop:
        refusing = asyncio.run_coroutine_threadsafe(_refuse_waiting(blocks._queue), guard.loop)
        with suppress(TimeoutError):  # of a loop that is too busy; whoever waits is then told when it ends
            refusing.result(1)
    end = time.monotonic() + finishing
    _wait(lambda: not any(blocks._queue.active_jobs), end - 0.5)
    closing.set()
    _wait(lambda: not any(blocks._queue.active_jobs), end)
    _wait(lambda: all(one.empty() for one in blocks._queue.pending_messages_per_session.values()), end + 0.2)
    if guard.loop:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_turns(), guard.loop).result(0.5)
    blocks.close(verbose=False)


async def _refuse_waiting(queue) -> None:
    """Tells those who wait for an answer that was not begun that there will be none."""
    from gradio.server_messages import ProcessCompletedMessage

    said = {"error": CLOSING, "title": "Not done", "visible": True, "duration": None}
    async with queue.delete_lock:
        for waiting in queue.event_queue_per_concurrency_id.values():
            for event in waiting.queue:
                queue.send_message(event, ProcessCompletedMessage(output=said, title="Not done", success=False))
                queue.event_ids_to_events.pop(event._id, None)
            waiting.queue.clear()


async def _turns() -> None:
    """
    The loop's next turns: a connection that has taken an answer's end from its queue sends it within some of them.
    Gradio throws that away where the queue has stopped meanwhile (`sse_stream` in gradio/routes.py).
    """
    for _ in range(20):
        await asyncio.sleep(0)


def _wait(condition: Callable[[], bool], end: float) -> None:
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def _end(clean: Callable[[], object], status: int) -> None:
    """Ends the process whatever its threads do."""
    clean()
    sys.stdout.flush()
    os._exit(status)
