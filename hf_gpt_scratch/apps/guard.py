"""
What stands between the network and a page: limits of size, time and rate, a password, and errors that say nothing of
this machine. It is an ASGI application around Gradio's.
"""

import asyncio
import ipaddress
import json
import math
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .login import MISSING, OFTEN, WAIT, Login, is_of_another_site

SENTENCES = {
    400: "The request cannot be read.",
    401: MISSING,
    403: "There is nothing at this address.",
    404: "There is nothing at this address.",
    405: "There is nothing at this address.",
    408: "The request took too long to arrive; send it again.",
    413: "The request is too large; send less at a time.",
    429: "Too many requests came from this address; wait a minute.",
    500: "Something went wrong. The terminal where the page was started shows what.",
    503: "Too many people are waiting for an answer; try again in a moment.",
}
ELSEWHERE = "The request comes from another site; open the page itself."
CLOSING = "The page is closing and takes no more questions."
API = "/gradio_api"
# What a page and Gradio's client ask for. Everything else of Gradio's own is closed: other pages' files, settings,
# monitoring, calls past the queue.
EXACT = {"/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"}
EXACT |= {API + path for path in ("/info", "/queue/join", "/queue/data", "/queue/status", "/startup-events")}
EXACT |= {API + path for path in ("/cancel", "/reset", "/reset/", "/theme.css", "/app_id", "/login_check")}
STATIC = ("/assets/", "/static/", "/svelte/")
BELOW = (*STATIC, *(API + path for path in ("/heartbeat/", "/run/", "/api/", "/call/")))
FILES_EXACT = {API + path for path in ("/upload", "/upload_progress")}
FILE, HEARTBEAT, STARTUP = f"{API}/file=", f"{API}/heartbeat/", f"{API}/startup-events"
QUESTIONS = (f"{API}/queue/join", f"{API}/run/", f"{API}/api/", f"{API}/call/", f"{API}/upload")
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"))
MOST_ADDRESSES = 10_000  # whose requests are counted; beyond, those longest unseen are forgotten
_traced: dict[tuple, float] = {}  # when a traceback of each place was printed


@dataclass(frozen=True)
class Limits:
    """Of one request, or of one address."""

    body: int = 2_000_000  # bytes of a question with its conversation
    upload: int = 11_000_000  # bytes of a file of messages, with the form around it
    rate: int = 1_000  # requests a minute of one address, without the page's own scripts; 0 for no limit
    logins: int = 10  # wrong passwords a minute of one address
    logins_of_all: int = 100  # of all addresses together
    reading: float = 20.0  # seconds in which a question, or the next part of a file, must arrive
    uploading: float = 300.0  # seconds in which a file must arrive


class Refused(Exception):
    """A request is answered with this status and sentence; `is_sending`: more of it is still to come."""

    def __init__(self, status: int, sentence: str | None = None, headers: tuple = (), is_sending: bool = False):
        super().__init__(sentence or SENTENCES[status])
        self.status, self.headers, self.is_sending = status, headers, is_sending


class Rate:
    """How often each address may do something in a minute; what was not used is saved up, of one minute at most."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic):
        self.a_minute, self.clock = a_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, cost: int = 1) -> bool:
        """Whether the address may do it once more, which counts if so; with a cost of 0 nothing is counted."""
        if not self.a_minute:
            return True
        now = self.clock()
        left, since = self._left.pop(address, (float(self.a_minute), now))
        left = min(self.a_minute, left + (now - since) * self.a_minute / 60)
        allowed = left >= 1
        self._left[address] = (left - cost if allowed else left, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return allowed


def network_of(scope) -> str:
    """The address of a client; of IPv6 the network, as one household has 2^64 addresses."""
    host = (scope.get("client") or ("unknown",))[0]
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host


class Guard:
    """
    Args:
        password: asked for on every page and address.
        takes_files: whether the page has a box for a file.
        framed: whether other sites may show the page in a frame, as Spaces and Colab do.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        password: str | None = None,
        takes_files: bool = True,
        framed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.limits, self.takes_files, self.app = limits, takes_files, None
        self.rate = Rate(limits.rate, clock)
        self.login = None
        if password:
            wrong, wrong_of_all = Rate(limits.logins, clock), Rate(limits.logins_of_all, clock)
            self.login = Login(password, wrong=wrong, wrong_of_all=wrong_of_all, framed=framed)
        self.closing = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.open_tabs: Counter[str] = Counter()  # by Gradio's name of a session
        self.headers = HEADERS if framed else (*HEADERS, (b"content-security-policy", b"frame-ancestors 'self'"))

    def around(self, app) -> "Guard":
        """Guards `app`; for Starlette's `Middleware`."""
        self.app = app
        return self

    async def __call__(self, scope, receive, send) -> None:
        self.loop = asyncio.get_running_loop()
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        reply = Reply(send, self.headers, lambda: self.closing)
        try:
            await self._answer(scope, receive, reply)
        except Refused as refusal:
            if refusal.is_sending:
                await drain(receive)
            await reply.refuse(refusal.status, str(refusal), refusal.headers)
        except Exception as error:
            if _asks_of_nothing(error):
                return await reply.refuse(404)
            trace(error)
            await reply.refuse(500)

    async def _answer(self, scope, receive, reply: "Reply") -> None:
        path, address = _path(scope), network_of(scope)
        if not path.startswith(STATIC) and not self.rate.allows(address):
            raise Refused(429, headers=(WAIT,))
        if self.login and path != STARTUP:  # which launching the page asks for, and which tells nothing
            if path == "/login" and scope["method"] == "POST":
                form = await read(receive, 10_000, self.limits.reading)
                return await reply.whole(*self.login.answer(form, address, scope))
            if problem := self.login.problem(scope, address):
                if problem == OFTEN:
                    raise Refused(429, OFTEN, headers=(WAIT,))
                return await reply.whole(*self.login.form(path, scope))
            if self.login.has_cookie(scope) and is_of_another_site(scope):
                raise Refused(403, ELSEWHERE)
        self._require_open(path, scope["method"])
        if path.startswith(HEARTBEAT):
            session = path.removeprefix(HEARTBEAT)
            self.open_tabs[session] += 1
            try:
                return await self.app(scope, receive, reply)
            finally:
                self.open_tabs[session] -= 1
                self.open_tabs += Counter()  # without those at 0
        await self.app(scope, await self._limited(scope, path, receive), reply)

    def _require_open(self, path: str, method: str) -> None:
        """Raises `Refused` for an address that the page does not need, and for questions to a page that closes."""
        is_file = path in FILES_EXACT or (path.startswith(FILE) and not path.removeprefix(FILE).startswith("http"))
        if not (path in EXACT or path.startswith(BELOW) or (is_file and self.takes_files)):
            raise Refused(404)
        if self.closing and method == "POST" and path.startswith(QUESTIONS):
            raise Refused(503, CLOSING)

    async def _limited(self, scope, path: str, receive):
        """A `receive` of a body that is not too large and came in time."""
        is_upload = path == f"{API}/upload"
        most = self.limits.upload if is_upload else self.limits.body
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            raise Refused(413, is_sending=True) if length.isdigit() else Refused(400)
        if scope["method"] in ("GET", "HEAD"):
            return receive
        if is_upload:
            return _counted(receive, most, self.limits)
        body, given = await read(receive, most, self.limits.reading), False

        async def again():
            nonlocal given
            if given:
                return await receive()  # that the client has gone
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again


def trace(error: Exception) -> None:
    """Prints a defect's traceback, at most once a minute for each place: who asks again and again fills no log."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place, now = (type(error).__name__, last.filename, last.lineno), time.monotonic()
    if now - _traced.get(place, -math.inf) >= 60:
        _traced[place] = now
        traceback.print_exception(error)


def _asks_of_nothing(error: Exception) -> bool:
    """Whether Gradio looked for a function of the page that there is not, which is no defect."""
    return traceback.extract_tb(error.__traceback__)[-1].name == "get_fn"


def _path(scope) -> str:
    """The path of a request, below that at which a proxy has the page."""
    root = scope.get("root_path", "").rstrip("/")
    path = scope["path"]
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


async def read(receive, most: int, seconds: float) -> bytes:
    """A request's body; raises `Refused` where it is larger, or not there in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400)
                body += message.get("body", b"")
                if len(body) > most:
                    raise Refused(413, is_sending=message.get("more_body", False))
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refused(408) from None


async def drain(receive, seconds: float = 5.0) -> None:
    """Takes what a client still sends, for a while: many read the answer only after they have sent everything."""
    try:
        async with asyncio.timeout(seconds):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        pass


def _counted(receive, most: int, limits: Limits):
    """A `receive` that raises `Refused` where a file is larger than `most` bytes, or not there in time."""
    size, end = 0, time.monotonic() + limits.uploading

    async def counted():
        nonlocal size
        try:
            message = await asyncio.wait_for(receive(), min(limits.reading, max(0.0, end - time.monotonic())))
        except TimeoutError:
            raise Refused(408) from None
        size += len(message.get("body", b""))
        if size > most:
            raise Refused(413, is_sending=message.get("more_body", False))
        return message

    return counted


class Reply:
    """ASGI's `send`: with the headers of every page, and with one sentence in place of what an error says."""

    def __init__(self, send: Callable[[dict], Awaitable], headers: tuple, is_closing: Callable[[], bool]):
        self.send, self.headers, self.is_closing = send, headers, is_closing
        self.started, self.failed = False, 0

    async def __call__(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self.failed = message["status"]
                return
            self.started = True
            message = {**message, "headers": [*message["headers"], *self.headers]}
        elif self.failed:
            if not message.get("more_body") and not self.started:
                # Gradio's client reads a list of faults in 422, which we do not tell
                await self.refuse(400 if self.failed == 422 else self.failed)
            return
        await self.send(message)

    async def refuse(self, status: int, sentence: str | None = None, headers: tuple = ()) -> None:
        """An error as JSON, as Gradio's page shows it; nothing where an answer is under way."""
        if self.started:
            return
        if not sentence:
            sentence = CLOSING if status == 503 and self.is_closing() else SENTENCES.get(status, SENTENCES[400])
        body = json.dumps({"detail": sentence, "error": sentence}).encode()
        await self.whole(status, body, ((b"content-type", b"application/json"), *headers))

    async def whole(self, status: int, body: bytes, headers: tuple) -> None:
        """An answer of one part; a client that has not sent all of its request is not waited for."""
        self.started = True
        length = (b"content-length", str(len(body)).encode())
        all_headers = [*headers, length, (b"cache-control", b"no-store"), *self.headers]
        if status in (408, 413):
            all_headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})
