"""Pages served by a process of their own, asked by Gradio's client or looked at in headless Chromium."""

import base64
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

UNTRUSTED = "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> **bold** &lt;b&gt;"
# Two models' answers to four questions, for raters to compare
MARKUP = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> **bold** # head\n"
    "  $x^2$ ${window.hacked = 3} {{value}} {{#each value}}z{{/each}} @children [x](javascript:alert(1)) &lt;b&gt;"
)
ANSWERS = [MARKUP, "long " * 2000, "", "x" * 1000]
PHONE, DESKTOP = (360, 760), (1280, 900)


@contextmanager
def started(command, **options):
    """The process and the address that it prints; it is killed in the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        line = process.stdout.readline()
        address = re.match(r"Open (http://[\d.]+:\d+/) in a browser", line)
        assert address, line
        yield process, address[1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        process.stdout.close()


def program(*words, before: str = "") -> list[str]:
    """The command that shows a page, after some Python that changes the server."""
    code = f"{before}\nfrom hf_gpt_scratch_cli import run; run()"
    return [sys.executable, "-W", "ignore", "-c", code, "app", *map(str, words)]


def client(address: str):
    """Gradio's client of the page at an address."""
    return pytest.importorskip("gradio_client").Client(address, verbose=False)


def resize(browser, width: int, height: int):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait_for(condition, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


class Page:
    """A page in the browser, of which pictures go to the folder in $PAGE_PICTURES or else to `folder`."""

    def __init__(self, browser, address: str, folder: Path, size: tuple[int, int] = PHONE):
        self.browser = browser
        self.folder = Path(os.environ.get("PAGE_PICTURES", folder))
        self.folder.mkdir(parents=True, exist_ok=True)
        resize(browser, *size)
        browser.get(address)

    def all(self, selector: str) -> list:
        return self.browser.find_elements("css selector", selector)

    def shows(self, selector: str, has: str = ""):
        """The first element that is visible and has the text, or None."""
        # In one go: the page replaces elements while it is written.
        script = "return [...document.querySelectorAll(arguments[0])].find("
        script += "one => one.checkVisibility() && (one.value || one.innerText).includes(arguments[1]))"
        return self.browser.execute_script(script, selector, has)

    def until(self, selector: str, has: str = ""):
        """The first element, once it is visible and has the text."""
        return wait_for(lambda: self.shows(selector, has))

    def text(self, selector: str) -> str:
        return self.browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)

    def is_unharmed(self) -> bool:
        """No untrusted text has run as a script, and no error is shown, neither ours nor Gradio's."""
        shown = self.text("body")
        hacked = self.browser.execute_script("return window.hacked")
        return hacked is None and "Error" not in shown and "Not done" not in shown

    def low_contrast(self) -> list[str]:
        """The texts that are hard to read on what is behind them."""
        return self.browser.execute_script((Path(__file__).parent / "contrast.js").read_text(encoding="utf-8"))

    def nameless(self) -> list[str]:
        """What can be clicked or typed into and tells a screen reader no name."""
        kinds = ("button", "input", "textarea", "a", "[role=button]", "[role=img]", "progress")
        shown = [one for one in self.all(", ".join(kinds)) if one.is_displayed()]
        hidden = "return arguments[0].closest('[aria-hidden=true]') !== null"
        nameless = [one for one in shown if not one.accessible_name]
        return [one.get_attribute("outerHTML") for one in nameless if not self.browser.execute_script(hidden, one)]

    def wide(self) -> bool:
        """Whether the page scrolls sideways."""
        return self.browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth")

    def picture(self, name: str):
        """Pictures at both sizes, on neither of which the page is too wide."""
        for device, size in {"desktop": DESKTOP, "phone": PHONE}.items():
            resize(self.browser, *size)
            time.sleep(0.5)  # the lay-out moves
            shot = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
            (self.folder / f"{name}-{device}.png").write_bytes(base64.b64decode(shot["data"]))
            assert not self.wide()
