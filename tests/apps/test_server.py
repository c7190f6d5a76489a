"""How a page's server lives and ends: slow connections, what it keeps, the queue, Ctrl-C."""

import asyncio
import datetime
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from hf_gpt_scratch.apps import page, server
from hf_gpt_scratch.apps.guard import CLOSING, Guard
from hf_gpt_scratch.utils.errors import InputError
from support.in_browser import client, program, started, wait_for

# Answers of two seconds, one at a time, that wait after their second word until the file GO is there
SLOW = """
import os, time
import hf_gpt_scratch.generation.chat as chat
import hf_gpt_scratch.apps.server as server

def stream_text(*args, **sampling):
    for number in range(8):
        yield f" {number}"
        time.sleep(0.25)
        while number == 1 and not os.path.exists(GO):
            time.sleep(0.05)

chat.stream_text = stream_text
server.RUNNING, server.WAITING = 1, 2
"""
# A loop so busy that an answer's end lies with the connection that is to send it while the server ends
BUSY = """
import asyncio, time

get = asyncio.Queue.get

async def get_and_wait(queue):
    message = await get(queue)
    if type(message).__name__ == "ProcessCompletedMessage":
        time.sleep(0.1)
    return message

asyncio.Queue.get = get_and_wait
"""


class Connection:
    """uvicorn's side of a connection, as far as it is watched; `cycle` is the request under way."""

    def __init__(self, loop):
        self.loop, self.cycle, self.client, self.connections = loop, None, ("192.0.2.1", 1), set()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        pass


class Transport:
    def __init__(self):
        self.waiting, self.written, self.aborted = 0, b"", False

    def get_write_buffer_size(self):
        return self.waiting

    def write(self, data):
        self.written += data

    def abort(self):
        self.aborted = True


def watched(monkeypatch, seconds: float, change) -> Transport:
    """The transport of a connection that was watched for so many steps, `change(connection, transport)` at each."""
    monkeypatch.setattr(server, "STEP", 0.01)
    monkeypatch.setattr(server, "HEADERS_WITHIN", 0.03)
    monkeypatch.setattr(server, "TAKEN_WITHIN", 0.03)

    async def run():
        transport, connection = Transport(), server.timed(Connection)(asyncio.get_running_loop())
        connection.connection_made(transport)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            change(connection, transport)
            await asyncio.sleep(0.002)
        connection.connection_lost(None)
        return transport

    return asyncio.run(run())


def test_a_connection_that_does_not_say_what_it_wants_is_cut(monkeypatch):
    assert watched(monkeypatch, 0.2, lambda *_: None).written.startswith(b"HTTP/1.1 408")


def test_a_connection_with_a_request_under_way_or_one_after_another_is_not(monkeypatch):
    def busy(connection, transport):
        connection.cycle = connection.cycle or SimpleNamespace(response_complete=False)

    def often(connection, transport):
        connection.cycle = SimpleNamespace(response_complete=True)

    assert not watched(monkeypatch, 0.2, busy).written and not watched(monkeypatch, 0.2, often).written


def test_a_reader_that_takes_nothing_is_cut(monkeypatch):
    def full(connection, transport):
        connection.cycle = connection.cycle or SimpleNamespace(response_complete=False)
        transport.waiting = 100_000

    assert watched(monkeypatch, 0.2, full).aborted


def test_an_address_has_so_many_connections_and_this_machine_more(monkeypatch):
    monkeypatch.setattr(server, "OF_ONE", 2)
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    far, near = ([SimpleNamespace(client=(host, 1))] * 3 for host in ("192.0.2.1", "127.0.0.1"))
    assert server.too_many(("192.0.2.1", 1), far) and not server.too_many(("192.0.2.2", 1), far)
    assert not server.too_many(("127.0.0.1", 1), near) and server.too_many(("127.0.0.1", 1), near * 2)


def test_closed_tabs_are_forgotten_and_open_ones_are_not():
    old = datetime.datetime.now() - datetime.timedelta(seconds=server.LEFT + 1)
    used = {"open": old, "closed": old, "just now": datetime.datetime.now()}
    holder = SimpleNamespace(
        time_last_used=dict(used), session_data=dict(used), lock=threading.Lock(), delete_state=lambda session: None
    )
    queue = SimpleNamespace(
        pending_event_ids_session={"open": set(), "closed": set(), "gone": {"event"}},
        pending_messages_per_session=dict.fromkeys(("open", "closed", "gone")),
    )
    app = SimpleNamespace(state_holder=holder, iterators_to_reset={"a"}, iterators={})
    guard = Guard()
    guard.open_tabs["open"] = 1
    assert server.forget(SimpleNamespace(app=app, _queue=queue), guard) == 2
    assert set(holder.session_data) == set(holder.time_last_used) == {"open", "just now"}
    assert set(queue.pending_event_ids_session) == {"open", "gone"} and not app.iterators_to_reset
    holder.session_data |= dict.fromkeys(map(str, range(server.MANY)))
    holder.time_last_used["just now"] -= datetime.timedelta(seconds=server.LEFT_OF_MANY + 1)
    server.forget(SimpleNamespace(app=app, _queue=queue), guard)
    assert set(holder.time_last_used) == {"open"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["private"], "The request cannot be read."),
        (["private", "private", "a"], "The request cannot be read."),
        (["private", {"path": "private"}, "a"], "The request cannot be read."),
        (["", 2, "private"], "private is not in the list of choices"),
    ],
)
def test_a_question_that_no_page_asks_is_not_printed(wrong, said, capfd):
    pytest.importorskip("gradio")
    gradio = page.gradio()
    with gradio.Blocks() as blocks:
        boxes = [gradio.Textbox(), gradio.Slider(), gradio.Dropdown(["a"])]
        gradio.Button().click(lambda *inputs: "".join(map(str, inputs)), boxes, boxes[0])
    server.limit(blocks)
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        question = {"fn_index": 0, "session_hash": "a tab"}
        heard = [ask(address, question | {"data": data}) for data in (wrong, ["private", 2, "a"])]
    finally:
        blocks.close()
    assert said in heard[0] and '"data":["private2a"]' in heard[1]
    assert "private" not in "".join(capfd.readouterr())


def ask(address: str, question: dict) -> str:
    """All that Gradio's queue says to a question."""
    import httpx  # which comes with Gradio

    api = f"{address}gradio_api/queue"
    httpx.post(f"{api}/join", json=question).raise_for_status()
    with httpx.stream("GET", f"{api}/data", params={"session_hash": question["session_hash"]}) as stream:
        return stream.read().decode()


def test_a_file_is_not_read_on_when_the_page_has_no_more_time(monkeypatch):
    monkeypatch.setattr(server, "closing", threading.Event())
    items = server.still_open(iter(range(3)))
    assert next(items) == 0
    server.closing.set()
    with pytest.raises(InputError, match="closed before this was finished"):
        next(items)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_finishes_what_was_begun_and_tells_those_who_wait(models, number, status, tmp_path):
    pytest.importorskip("gradio")
    go = tmp_path / "go"
    with started(program("chat", models["chat"], before=f"GO = {str(go)!r}\n{SLOW}{BUSY}")) as (process, address):
        users = [client(address) for _ in range(4)]
        first = users[0].submit("hi", [], 0, 0, 8, "", False, api_name="/ask")
        wait_for(lambda: len(first.outputs()) > 1)
        second = users[1].submit("hi", [], 0, 0, 8, "", False, api_name="/ask")
        wait_for(lambda: second.status().rank == 0)
        third = users[2].submit("hi", [], 0, 0, 8, "", False, api_name="/ask")
        wait_for(lambda: third.status().rank == 1 and third.status().queue_size == 2)  # the place, and the length
        with pytest.raises(Exception, match="[Qq]ueue is full"):
            users[3].predict("hi", [], 0, 0, 8, "", False, api_name="/ask")
        go.touch()
        begun = time.monotonic()
        process.send_signal(number)
        assert first.result(timeout=10)[0][-1]["content"][0]["text"].split() == list("01234567")
        for waiting in (second, third):
            with pytest.raises(Exception, match=CLOSING):
                waiting.result(timeout=10)
        assert process.wait(timeout=10) == status and time.monotonic() - begun < 8
