"""The static pages: written for small models, served, and looked at in headless Chromium."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from hf_gpt_scratch.apps import npm
from hf_gpt_scratch.utils.errors import InputError
from support.in_browser import wait_for

# Texts that two tokenizers may well read differently
ODD = [
    "two  spaces, three   and a tab\tand\r\nCRLF\n\n and lines",
    "emoji 👍🏽 family 👨‍👩‍👧‍👦 flag 🇩🇪 keycap 1️⃣",
    "combining e\u0301 n\u0303 and Z\u0351\u036b\u0343 alone \u0301",
    "עברית and العربية mixed \u202eright to left\u202c",
    "NUL \x00 bell \x07 unit \x1f separator \x1c escape \x1b",
    "next\x85line, BOM \ufeff in it, no\u00a0break, thin\u2009space, line\u2028and\u2029paragraph, \u200bzero \u180e",
    "ΑΣΟΦΟΣ ΣΑΣ. İstanbul ISPARTA ǅ STRASSE ẞ ﬀ Ⅷ",
    "digits 12345 ١٢٣ ² ½ Ⅻ 9,99 1st",
    "it's WE'LL they'Re I'm 've don’t 's",
    "typed <|endoftext|> and <|pad|> <|endoftext|>",
    "__proto__ constructor toString",
    "\U0001d400\U0001f1e6 \U00010348 private \ue000 unassigned \U000e0001 \uffff",
    "長い日本語の文章です。한국어도 있습니다 ไทย",
    "!\ufeff! !\ufeff! !\ufeff! من نه هو ول ٣ ٤ من نه هو ول",  # so that a tokenizer learns pieces across them
    "!!!??? ... --- ___ ~~~ ``` $$$ @@@ ###",
]


def require_packages(*packages: npm.Package) -> None:
    """Skips the test where npm cannot fetch the libraries."""
    try:
        for package in packages:
            npm.files_of(package)
    except InputError as error:
        if "SHA-512" in str(error):
            raise
        pytest.skip(str(error))


@contextmanager
def served(folder: Path):
    """The address of the folder, as `python -m http.server` serves it."""
    code = "import http.server as h, sys; s = h.ThreadingHTTPServer(('127.0.0.1', 0), type('H', (h."
    code += "SimpleHTTPRequestHandler,), {'log_message': lambda *a: None})); print(s.server_port, flush=True);"
    code += "s.serve_forever()"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
    finally:
        process.kill()
        process.wait(timeout=10)
        process.stdout.close()


def address_of(folder: Path) -> str:
    """Of the page as a double click opens it."""
    return (folder / "index.html").resolve().as_uri()


def asked(browser, method: str, values: list):
    """What the page's model answers to each of the values."""
    script = """
    const [method, values, done] = arguments;
    (async () => {
      const found = [];
      for (const value of values) found.push(await window.model.ask(method, [value]));
      return found;
    })().then(done, (error) => done(`error: ${error.message}`));
    """
    browser.set_script_timeout(120)
    found = browser.execute_async_script(script, method, values)
    assert not isinstance(found, str), found
    return found


def ready(browser) -> None:
    """Waits until the page's model is loaded."""
    wait_for(lambda: browser.execute_script("return Boolean(window.model)"), 60)


def requests_of(browser) -> list[str]:
    """The addresses that the browser has asked since this was last called."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("blob:", "data:"))]


def copied(folder: Path, out: Path) -> Path:
    return Path(shutil.copytree(folder, out))
