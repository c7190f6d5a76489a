"""A stand-in for the Hub, and processes that talk to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.stand_in import TOKEN, Hub, hub_stand_in

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub():
    with hub_stand_in() as server:
        yield server


# The Hub's client waits 1 to 8 seconds before it asks again, five times: here a fiftieth of that.
QUICK_RETRIES = """
import time, types, huggingface_hub.utils._http as http
http.time = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 50)})
"""


@pytest.fixture
def elsewhere(hub: Hub, tmp_path):
    """
    Runs Python with the stand-in as the Hub: code, or the command with arguments. Tests of what the Hub says have the
    folder's checks, some seconds each, left out by `checked=False`.
    """

    def run(
        *words: str, code: str = "", token: str = TOKEN, checked: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= hub.environment(tmp_path / "home", token) | {"PYTHONPATH": str(ROOT)}  # this checkout's package
        unchecked = "import hf_gpt_scratch.hub.push as push; push.check_model = lambda *_: []\n"
        code = code or f"{'' if checked else unchecked}from hf_gpt_scratch_cli import run; run()"
        command = [sys.executable, "-W", "ignore", "-c", QUICK_RETRIES + code, *words]
        return subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, cwd=tmp_path, timeout=300
        )

    return run
