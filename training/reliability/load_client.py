"""
What asks a page over the network, as a browser does: its own process, the users' questions, and clients that are slow
on purpose. All on this machine's loopback.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

API = "/gradio_api"
PATIENCE = 120  # seconds after which an answer counts as lost
PROGRAM = "from hf_gpt_scratch_cli import run; run()"


class Page:
    """A page in a process of its own; `command` is what follows `hf-gpt-scratch app`."""

    def __init__(self, command: list[str], log: Path, **environment: str):
        self.log = log
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
        words = [sys.executable, "-W", "ignore", "-c", PROGRAM, "app", *map(str, command)]
        with open(log, "w") as file:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=file, text=True, env=env)
        line = self.process.stdout.readline()
        found = re.match(r"Open (http://[\d.]+:(\d+))/ in a browser", line)
        if not found:
            self.process.kill()
            raise RuntimeError(f"No page: {line}{log.read_text()}")
        self.address, self.port = found[1], int(found[2])

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *error) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def end(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Sends a signal; the exit status, and after how many seconds it came."""
        begun = time.monotonic()
        self.process.send_signal(number)
        try:
            return self.process.wait(60), time.monotonic() - begun
        except subprocess.TimeoutExpired:
            return -1, time.monotonic() - begun


@dataclass
class Answer:
    """
    What came of a question.

    Attributes:
        data: the values of the page's boxes, as JSON; `None` where none came.
        error: the sentence in place of an answer.
        begun: whether the page said that it works on it.
        places: what the queue said while it waited: the place, from 0, and the queue's length.
        seconds: from the question to the answer.
    """

    data: str | None = None
    error: str = ""
    begun: bool = False
    places: list[tuple[int, int]] = field(default_factory=list)
    seconds: float = 0.0


class Client:
    """One user: a browser with one tab after another, each a session of the page."""

    def __init__(self, address: str, like: "Client | None" = None):
        self.http = httpx.Client(base_url=address, timeout=PATIENCE, verify=False)  # reads no certificates
        self.config = like.config if like else self.http.get("/config").json()
        self.functions = {one["api_name"]: one for one in self.config["dependencies"] if one["api_name"]}
        self.values = {one["id"]: one["props"].get("value") for one in self.config["components"]}
        self.session = secrets.token_hex(6)

    @contextlib.contextmanager
    def tab(self) -> Iterator[None]:
        """A new tab, closed in the end."""
        self.session = secrets.token_hex(6)
        with self.http.stream("GET", f"{API}/heartbeat/{self.session}"):
            yield

    def ask(self, function: str, given: dict[int, object]) -> Answer:
        """Calls a function of the page; `given` are its inputs by number, the others are as the page shows them."""
        one = self.functions[function]
        data = [given.get(i, self.values.get(box)) for i, box in enumerate(one["inputs"])]
        body = {"data": data, "fn_index": one["id"], "session_hash": self.session}
        answer, begun = Answer(), time.monotonic()
        try:
            joined = self.http.post(f"{API}/queue/join", json=body)
            if joined.status_code != 200:
                answer.error = f"{joined.status_code}: {joined.json().get('detail')}"
            else:
                self._read(answer, joined.json()["event_id"])
        except (httpx.HTTPError, ValueError) as error:
            answer.error = answer.error or type(error).__name__
        answer.seconds = time.monotonic() - begun
        return answer

    def _read(self, answer: Answer, event: str) -> None:
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                kind = message["msg"]
                if kind == "estimation":
                    answer.places.append((message["rank"], message["queue_size"]))
                answer.begun |= kind == "process_starts"
                if kind == "process_completed" and message["event_id"] == event:
                    if message["success"]:
                        answer.data = json.dumps(message["output"]["data"], sort_keys=True)
                    else:
                        answer.error = str(message["output"].get("error"))
                if kind in ("close_stream", "unexpected_error"):
                    return


class Slow:
    """A connection that sends, or reads, a byte from time to time."""

    KINDS = ("head", "body", "reader")

    def __init__(self, port: int, kind: str):
        self.kind, self.is_cut, self.begun, self.cut_after = kind, False, time.monotonic(), 0.0
        self.socket = socket.socket()
        if kind == "reader":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        if kind == "reader":
            self.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        else:
            sent = f"POST {API}/queue/join HTTP/1.1\r\nHost: localhost\r\n"
            self.socket.sendall((sent if kind == "head" else f"{sent}Content-Length: 1000\r\n\r\n").encode())
        self.socket.setblocking(False)

    def step(self) -> None:
        """A byte more, unless the page has cut the connection."""
        if self.is_cut:
            return
        try:
            if self.kind != "reader":
                self.socket.send(b"a")
            came = self.socket.recv(1 if self.kind == "reader" else 1000)
            self.is_cut = not came or came.startswith(b"HTTP/1.1 408")
        except BlockingIOError:
            pass
        except OSError:
            self.is_cut = True
        if self.is_cut:
            self.cut_after = time.monotonic() - self.begun

    def close(self) -> None:
        self.socket.close()
