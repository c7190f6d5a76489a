"""The password of a page: its form, its cookie, and how often it may be guessed."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from urllib.parse import parse_qs

COOKIE = "hf_gpt_scratch"
HOURS = 12  # a cookie is good for
FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Password</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 22rem; margin: 15vh auto; padding: 0 1rem; }}
input, button {{ font: inherit; box-sizing: border-box; width: 100%; min-height: 44px; padding: 8px 12px; }}
button {{ margin-top: 12px; border: 0; border-radius: 8px; background: #1d4ed8; color: white; }}
</style></head><body><main><h1>This page asks for a password</h1><p role="alert">{said}</p>
<form method="post" action="login"><label>Password
<input type="password" name="password" autocomplete="current-password" required autofocus></label>
<button>Open the page</button></form></main></body></html>
"""
MISSING = "This page asks for a password."
WRONG = "That was not the password."
OFTEN = "Too many wrong passwords were given; wait a minute."
ALL = "all"  # addresses together: one can be made up, by whoever comes through a proxy
HTML = (b"content-type", b"text/html; charset=utf-8")
JSON = (b"content-type", b"application/json")
WAIT = (b"retry-after", b"60")
ASKED = json.dumps({"detail": MISSING, "error": MISSING}).encode()


class Login:
    """
    Whoever knows the password gets a signed cookie; programs give it by HTTP's basic authentication, with any name.

    Args:
        wrong: counts wrong passwords by address; where it allows no more, none is compared.
        wrong_of_all: the same of all addresses together.
        framed: whether other sites may show the page in a frame, where a browser sends no other cookie.
    """

    def __init__(self, password: str, *, wrong, wrong_of_all, framed: bool = False):
        self._digest, self._key = _digest(password), secrets.token_bytes(32)
        self._wrong, self._wrong_of_all, self._framed = wrong, wrong_of_all, framed

    def __repr__(self) -> str:
        return "Login()"

    def problem(self, scope, address: str) -> str:
        """Why a request is not let in: `MISSING`, `WRONG` or `OFTEN`; "" where it has the cookie, or the password."""
        if self.has_cookie(scope):
            return ""
        headers = dict(scope["headers"])
        kind, _, encoded = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if kind.lower() != "basic":
            return MISSING
        try:
            given = base64.b64decode(encoded, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return WRONG
        return self._problem_of(given, address)

    def has_cookie(self, scope) -> bool:
        """Whether a request has the cookie, which a browser may add of itself."""
        return self._is_cookie(dict(scope["headers"]).get(b"cookie", b"").decode("latin-1"))

    def form(self, path: str, scope) -> tuple[int, bytes, tuple]:
        """Status, body and headers of what is shown without a password: on the page itself a form, else a sentence."""
        is_page = path == "/" and scope["method"] in ("GET", "HEAD")
        return (401, FORM.format(said="").encode(), (HTML,)) if is_page else (401, ASKED, (JSON,))

    def answer(self, body: bytes, address: str, scope) -> tuple[int, bytes, tuple]:
        """Status, body and headers of the answer to the form: the page and a cookie, or the form again."""
        [given] = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[:1]
        if said := self._problem_of(given, address):
            status, headers = (429, (HTML, WAIT)) if said == OFTEN else (401, (HTML,))
            return status, FORM.format(said=said).encode(), headers
        is_secure = scope["scheme"] == "https"
        same = "SameSite=None; Partitioned" if is_secure and self._framed else "SameSite=Lax"
        secure = "; Secure" if is_secure else ""
        cookie = f"{COOKIE}={self._cookie()}; HttpOnly; {same}; Path=/; Max-Age={HOURS * 3600}{secure}"
        return 303, b"", ((b"location", b"./"), (b"set-cookie", cookie.encode()))

    def _problem_of(self, given: str, address: str) -> str:
        """What is wrong with a password, "" where it is right."""
        if not (self._wrong.allows(address, cost=0) and self._wrong_of_all.allows(ALL, cost=0)):
            return OFTEN
        if hmac.compare_digest(_digest(given), self._digest):
            return ""
        self._wrong.allows(address)
        self._wrong_of_all.allows(ALL)
        return WRONG

    def _cookie(self) -> str:
        until = str(int(time.time()) + HOURS * 3600)
        return f"{until}.{self._signature(until)}"

    def _signature(self, until: str) -> str:
        return hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()

    def _is_cookie(self, header: str) -> bool:
        """Whether ours is among the cookies, whatever others there are: on localhost those of all ports come."""
        cookies = (part.strip().partition("=") for part in header.split(";"))
        return any(name == COOKIE and self._is_signed(value) for name, _, value in cookies)

    def _is_signed(self, value: str) -> bool:
        until, _, signature = value.partition(".")
        is_ours = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return is_ours and until.isascii() and until.isdigit() and int(until) > time.time()


def is_of_another_site(scope) -> bool:
    """
    Whether a browser says that a page of another origin sends a request, other than a link or a frame to the page.

    A browser that does not know `Partitioned` sends the cookie with them, and Gradio lets every origin read answers.
    `Origin` is not compared with `Host`: a proxy, as before Spaces and Colab, may put its own name there.
    `Sec-Fetch-Site` is the browser's own comparison, whatever stands between; no script can set it, and it comes with
    https, without which no frame has the cookie. Browsers that are too old to send it (Safari before 16.4) are let in.
    """
    headers = dict(scope["headers"])
    is_shown = scope["method"] in ("GET", "HEAD") and headers.get(b"sec-fetch-mode") == b"navigate"
    return headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and not is_shown


def _digest(text: str) -> bytes:
    """Of one length, so that comparing takes one time."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
