"""A server of one file, on this machine, that breaks in the ways servers do."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    server: "BadServer"

    def do_GET(self):
        server, content = self.server, self.server.content
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range", server.etag) == server.etag
        server.requests.append((self.headers.get("Range"), self.headers.get("If-Range")))
        if server.status != 200:
            self.send_error(server.status)
            return
        if server.location:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if server.fault == "silent":
            server.ended.wait()
            return
        start = int(asked[1]) if asked and is_same else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.fault != "endless":
            self.send_header("Content-Length", str(len(content) - start))
        if server.tells_version:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self._send(content[start:])

    def _send(self, content: bytes) -> None:
        server = self.server
        server.ready.wait()
        if server.cuts:
            self.wfile.write(content[: server.cuts.pop(0)])
        elif server.fault == "half":
            self.wfile.write(content[: len(content) // 2] if len(server.requests) == 1 else b"")
        elif server.fault == "stalls":
            self.wfile.write(content[: len(content) // 2])
            server.ended.wait()
        elif server.fault == "trickles":
            while not server.ended.wait(0.05):
                self.wfile.write(b".")
        elif server.fault == "endless":
            while not server.ended.is_set():
                self.wfile.write(b"." * 65536)
        else:
            self.wfile.write(b"!" * len(content) if server.fault == "lies" else content)

    def log_message(self, *args):
        pass


class BadServer(ThreadingHTTPServer):
    """
    Attributes:
        content: what it serves, under any name.
        fault: "silent" (accepts, never answers), "half" (breaks off, then sends nothing), "stalls" (after a half),
            "trickles", "endless", "lies" (other bytes); "" for none.
        cuts: after how many bytes the connection breaks, each time.
        status: of its answers.
        location: where it redirects to; "" where it does not.
        ready: it sends no content before this is set.
        tells_version: whether an ETag says which version it is.
        requests: the Range and If-Range of each.
    """

    daemon_threads = True

    def __init__(self, content: bytes, fault: str = ""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.fault, self.status, self.location = content, fault, 200, ""
        self.cuts: list[int] = []
        self.tells_version = True
        self.requests: list[tuple[str | None, str | None]] = []
        self.ended, self.ready = threading.Event(), threading.Event()
        self.ready.set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    def handle_error(self, request, client_address) -> None:
        """Silent: a client may go away."""


@contextmanager
def bad_server(content: bytes, fault: str = "") -> Iterator[BadServer]:
    """One that runs in the block."""
    with BadServer(content, fault) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.ended.set()
            server.ready.set()
            server.shutdown()
