"""
What the commands talk to while they are killed, each in a process of its own that ends with this one: the tests'
stand-in for the Hub, a judge, a server of files, and clean processes that are forks of one that is ready.
"""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

TESTS = Path(__file__).parents[2] / "tests"
sys.path.append(str(TESTS))
START = 60  # seconds that a process may take to be ready
PIECE = 8192  # bytes that the server of files sends at a time


def served(make: Callable[[], object]) -> int:
    """The port of an HTTP server, which `make` makes in a process of its own."""
    read, write = os.pipe()
    us = os.getpid()
    if os.fork() == 0:
        try:
            os.setsid()
            server = make()
            os.write(write, str(server.server_port).encode())
            Thread(target=server.serve_forever, daemon=True).start()
            while os.getppid() == us:
                time.sleep(0.5)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        return int(os.read(answer.fileno(), 16))


def hub() -> int:
    """The port of a stand-in for the Hub, without any repository."""
    from support.stand_in import Hub

    return served(Hub)


def judge() -> int:
    """The port of a judge whose score of a response is always the same, and which of two it finds better."""
    from zlib import crc32

    from support.judge_server import JudgeServer, chat, responses_in, slowly

    def answer(body: dict):
        scores = [crc32(response.encode()) % 101 for response in responses_in(body)]
        if len(scores) == 1:
            return chat(json.dumps({"score": scores[0]}))
        return chat(json.dumps({"winner": "A" if scores[0] > scores[1] else "B" if scores[0] < scores[1] else "tie"}))

    return served(lambda: JudgeServer(slowly(answer, 0.03)).http)


def files(folder: Path) -> int:
    """The port of a server of the files in a folder, whatever comes before their names; it sends them in pieces."""
    return served(lambda: Files(folder))


class Files(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), FilesHandler)
        self.folder = folder

    def handle_error(self, request, client_address) -> None:
        """Silent: a client may be killed."""


class FilesHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = (self.server.folder / self.path.rpartition("/")[2]).read_bytes()
        tag, asked = (
            f'"{sha256(content).hexdigest()[:16]}"',
            re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or ""),
        )
        start = int(asked[1]) if asked and self.headers.get("If-Range", tag) == tag else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        for place in range(start, len(content), PIECE):
            self.wfile.write(content[place : place + PIECE])
            time.sleep(0.05)

    def log_message(self, *args) -> None:
        pass


class CleanProcesses:
    """
    Takes the place of `subprocess` in `model_folder.clean_process`: asks a process that has imported torch and
    transformers, and not this package, for a fork. Whoever asks may be killed: each has a connection of its own.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.address = str(folder / "socket")
        self._process = subprocess.Popen([sys.executable, "-P", __file__, self.address], stdin=subprocess.DEVNULL)
        until = time.monotonic() + START
        while not os.path.exists(self.address):
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError("The process that clean processes are forks of did not start.")
            time.sleep(0.05)

    def run(self, command, *, input: str, env: dict, cwd: Path, **_) -> subprocess.CompletedProcess:
        """As `subprocess.run` with `capture_output` and `text`, for `[sys.executable, "-P", program]`."""
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir()
        files = [folder / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_text(input, encoding="utf-8")
        request = {"program": str(command[-1]), "env": env, "cwd": str(cwd), "files": list(map(str, files))}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.address)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile() as answer:
                status = int(answer.readline())
        out, err = (file.read_text(encoding="utf-8") for file in files[1:])
        return subprocess.CompletedProcess(command, status, out, err)


def serve_forks(address: str) -> None:
    """The ready process: a fork for each connection."""
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel  # noqa: F401

    from support.preloaded import _become

    starter = os.getppid()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        listening.settimeout(0.5)
        while os.getppid() == starter:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            finally:
                _reap()
            if os.fork() == 0:
                connection.settimeout(None)
                request = json.loads(connection.makefile().readline())
                child = os.fork()
                if child == 0:
                    _become(**request)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                try:
                    connection.sendall(f"{status}\n".encode())
                finally:  # the asker may have been killed
                    os._exit(0)
            connection.close()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    serve_forks(sys.argv[1])
