"""The commands of docs/serving.md that rent hardware, by the real programs, which are told to send nothing."""

import os
import re
import shlex
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
from packaging.version import Version

from hf_gpt_scratch import __version__
from hf_gpt_scratch.training import configs
from support.pages import ROOT, blocks, read

FILES = f"https://raw.githubusercontent.com/hf-gpt-scratch/hf_gpt_scratch/v{__version__}/"
JOBS = {
    "pretrain": "pretrain",
    "finetune_classify": "classify",
    "finetune_spam": "spam",
    "finetune_instruct": "instruct",
}
PAGES = [ROOT / "docs" / "serving.md", ROOT / "docs" / "colab.md"]


def commands(program: str) -> list[str]:
    lines = (block.code.replace("\\\n", " ") for page in PAGES for block in blocks(read(page), "bash"))
    return [line for code in lines for line in code.splitlines() if line.lstrip("!").startswith(program)]


@pytest.fixture
def files():
    """The address of a server of this checkout."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=ROOT)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.skipif(Version(huggingface_hub.__version__) < Version("1.32"), reason="its `hf jobs` has no --dry-run")
@pytest.mark.parametrize("command", commands("hf jobs uv run"))
def test_a_job_is_understood(command, files, tmp_path):
    hf, *words = shlex.split(command.replace(FILES, files))
    assert FILES in command
    (tmp_path / "tickets.csv").touch()
    dry = [
        Path(sys.executable).with_name(hf),
        *words[:3],
        "--dry-run",
        "--format",
        "human",
        "--namespace",
        "you",
        *words[3:],
    ]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = clean | {"HF_TOKEN": "hf_x", "HF_HOME": str(tmp_path), "HF_ENDPOINT": files.rstrip("/")}
    done = subprocess.run(dry, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    job = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert {"--output_dir", "--push_to_hub", "--hub_model_id"} <= set(shlex.split(job["args"]))
    assert (job["secrets"], job["flavor"], job["timeout"]) == ("HF_TOKEN=***", "t4-small", "1h")


def test_a_script_is_given_options_that_it_has():
    found = [*commands("hf jobs uv run"), *commands("uv run")]
    assert len(found) >= 3
    for command in found:
        [(script, options)] = re.findall(rf"{re.escape(FILES)}training/(\w+)\.py (.*)", command)
        job = JOBS[script]
        config, words = configs.take_config(shlex.split(options), job)
        assert config is not None
        assert {word.removeprefix("--") for word in words if word.startswith("--")} <= configs.option_names(job)
        assert {"--output_dir", "--push_to_hub", "--hub_model_id"} <= set(words)  # the machine is gone afterwards
