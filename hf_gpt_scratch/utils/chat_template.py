"""
Chat templates. One is a program in Jinja's language that comes with a tokenizer. Those of this package are rendered
here, by transformers; any other in a process of its own (`chat_template_main.py`), in Jinja's sandbox as with
transformers, and with limits: a template may loop for days, or fill the memory, without leaving the sandbox.
"""

import atexit
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .errors import InputError, one_line

MAIN = Path(__file__).with_name("chat_template_main.py")
PATIENCE = 60  # seconds until the process is given up, however busy the machine is
# The SHA-256 of all that `prompts.is_our_template` knows
OURS = {
    "7c3095a1423d0b11b00ca59ec83837406ea35dbc4aa0fd5f75acce3f91d03e48",
    "9b2991815451c0d5f3476b088c7f55c3c79e2d5824f3556da41e6261a63e62b9",
    "b2045cee76342cb89fb62aaf32a2c4b000a23c7c2733c4d7b0e88b2dd5249b41",
    "79450d23106c7bc879d680a8bf8f8b9871349eaf229cc85d5708510684c29777",
    "3459d17fbc40b571b9be7ea7e5b50aff19a06343254b64638efb046e61c2b53d",
    "d909edf9cf83dd580479842b820c81f0c71fbaa221685841148a860ff16464bd",
    "ee7a324898dc3a185cfb7f0468649bd6d464f08a6b0e2772c04b53bff19cd626",
    "03d2be3eef9a6ea76ba7fcf897e6a222f2cedff8ea3e298feee8a78acf072c8c",
}


def render_template(tokenizer, messages: Sequence[Mapping], **variables) -> str:
    """
    A conversation as the tokenizer's chat template writes it, up to where the next answer begins.

    Raises:
        InputError: when a template that is not this package's fails, or takes too long or too much.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # of several, none is the default
        raise InputError(f"The tokenizer has no chat template to use ({one_line(error)}).") from None
    if hashlib.sha256(template.encode("utf-8", "surrogatepass")).hexdigest() in OURS:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **variables)
    given = {"messages": list(messages), "tools": None, "documents": None, "add_generation_prompt": True}
    given |= {**tokenizer.special_tokens_map, **variables}
    try:
        return _PROCESS.render(template, given)
    except InputError as error:
        name = f" of {tokenizer.name_or_path}" if tokenizer.name_or_path else ""
        raise InputError(f"The chat template{name} {error}.") from None


class _Process:
    """The process, which starts with the first template and serves one request at a time."""

    def __init__(self):
        self._lock, self._process, self._owner = threading.Lock(), None, None

    def render(self, template: str, variables: dict) -> str:
        """What the template writes; raises `InputError` with the end of a sentence."""
        request = json.dumps({"template": template, "variables": variables}, default=str)
        with self._lock:
            answer = json.loads(self._ask(request) or "{}")
        if "text" in answer:
            return answer["text"]
        raise InputError(answer.get("error") or "was stopped, as it takes more than 2 seconds or 512 MB to render")

    def _ask(self, request: str) -> str:
        """A line for a line; none where the process died of the request."""
        if self._owner != os.getpid():  # a fork of the process that started it has none of its own
            self._process = None
        if self._process is None or self._process.poll() is not None:
            self._start()
        process, timer = self._process, threading.Timer(PATIENCE, self._process.kill)
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BaseException as error:  # Ctrl-C too: its answer would be taken for that to the next request
            self.stop()
            if isinstance(error, OSError):
                raise InputError(f"could not be rendered ({one_line(error)})") from None
            raise
        finally:
            timer.cancel()
        if not answer:  # it is dead, or about to be
            self.stop()
        return answer

    def _start(self) -> None:
        import jinja2
        import markupsafe

        # Nothing but Python's own modules and these two packages can be imported there.
        folders = [str(Path(package.__file__).resolve().parents[1]) for package in (jinja2, markupsafe)]
        kept = {name: value for name, value in os.environ.items() if name.upper() in ("SYSTEMROOT", "WINDIR")}
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(MAIN), *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            env=kept,
        )

    def stop(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            with suppress(OSError):  # what it was not sent
                self._process.stdin.close()
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None


_PROCESS = _Process()
atexit.register(_PROCESS.stop)
