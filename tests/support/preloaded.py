"""
Clean processes without their start: a process that has imported torch, transformers and PEFT, but not this package,
runs a program in a fork of itself. Most tests of conversions and checks then wait a tenth as long.

`Preloaded.run` takes the place of `subprocess.run` in `model_folder.clean_process`; that a clean process is clean, the
tests in tests/model_folder show with real ones.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path


class Preloaded:
    """The process; it starts with the first `run`, and ends with this one."""

    def __init__(self):
        self._process = None

    def run(self, command, *, input: str, env: dict, cwd: Path, **_) -> subprocess.CompletedProcess:
        """As `subprocess.run` with `capture_output` and `text`, for `[sys.executable, "-P", program]`."""
        if self._process is None:
            start = [sys.executable, "-P", __file__]
            self._process = subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder, name)) for name in ("stdin", "stdout", "stderr")]
            Path(files[0]).write_text(input, encoding="utf-8")
            request = {"program": str(command[-1]), "env": env, "cwd": str(cwd), "files": files}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            out, err = (Path(file).read_text(encoding="utf-8") for file in files[1:])
        return subprocess.CompletedProcess(command, status, out, err)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()


def serve() -> None:
    """The process: for each line of JSON a fork, whose exit status is the answer."""
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(**request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(program: str, env: dict, cwd: str, files: list[str]) -> None:
    from transformers import dynamic_module_utils

    for number, (file, flags) in enumerate(zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2))):
        os.dup2(os.open(file, flags), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - what the parent had read ahead is not ours
    dynamic_module_utils.HF_MODULES_CACHE = f"{env['HF_HOME']}/modules"  # which was read when it was imported
    status = 0
    try:
        runpy.run_path(program, run_name="__main__")
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve()
