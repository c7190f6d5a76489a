"""What a number needs to be trusted: the data's hash, the versions, the hardware and the command."""

import hashlib
import json
import os
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from .errors import InputError

PACKAGES = ("hf-gpt-scratch", "torch", "transformers", "tokenizers", "datasets", "accelerate", "scikit-learn")
ENVIRONMENT = ("python", "versions", "hardware", "torch_threads")  # the keys of `environment()`


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value) -> str:
    """The SHA-256 of a value as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def recorded_source(name_or_path: str | None) -> str | None:
    """
    What a model was converted from, as a record keeps it: a folder or file by its whole path, since `runs/small` would
    be taken for a repository.
    """
    return os.path.abspath(name_or_path) if name_or_path and os.path.exists(name_or_path) else name_or_path


def shown_path(word: str | os.PathLike) -> str:
    """A path within the current folder as seen from there; any other word as it is. `--key=PATH` is two words."""
    option, equals, value = str(word).partition("=") if str(word).startswith("--") else ("", "", str(word))
    here = Path.cwd()
    if os.path.isabs(value) and Path(value).is_relative_to(here) and Path(value) != here:
        value = str(Path(value).relative_to(here))
    return f"{option}{equals}{value}"


def public_name(source: str) -> str:
    """What data is called in a record: a local file or folder by its name alone, anything else as it is."""
    return Path(source).name if os.path.isabs(source) or os.path.exists(source) else source


def environment() -> dict:
    """The versions and the hardware this process runs on."""
    import torch

    hardware = {"machine": platform.machine(), "cpu": _cpu_name(), "cores": os.cpu_count()}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "hardware": hardware,
        "torch_threads": torch.get_num_threads(),
    }


def command_line(program: str, argv: list[str]) -> str:
    """
    The command that runs a script, `-m` or a command such as `hf-gpt-scratch train spam` with `argv` again, to be
    pasted in a shell; with the number of threads where it was set, as it changes the last bits of sums.
    """
    threads = os.environ.get("OMP_NUM_THREADS")
    argv = [shown_path(word) for word in argv]
    words = ["python", program] if program.endswith(".py") or program == "-m" else program.split()
    return shlex.join([*([f"OMP_NUM_THREADS={threads}"] if threads else []), *words, *argv])


def command_words(command: str | None) -> list[str]:
    """The words of a recorded command; raises `InputError` where it cannot be read."""
    try:
        return shlex.split(command or "")
    except ValueError as error:
        raise InputError(f"A recorded command cannot be parsed ({error}): {command!r}.") from None


def option(command: str | None, name: str) -> str | None:
    """The last value that a recorded command gives to `--name`, which may have hyphens for `_`, if it does."""
    value, names = None, {f"--{name}", f"--{name.replace('_', '-')}"}
    words = command_words(command)
    for word, following in zip(words, [*words[1:], None]):
        given, equals, after = word.partition("=")
        if given in names:
            value = after if equals else value if following is None else following
    return value


def own_command(argv: list[str]) -> str:
    """The same for `hf-gpt-scratch` with the arguments `argv`."""
    return command_line("hf-gpt-scratch", argv)


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
