"""An environment with the packages of Colab's own list, and its Python."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "colab" / "packages.txt"
FOLDER = ROOT / ".cache" / "colab"
PYTHONS = ("python3.13", "python3.12")  # Colab's


class Colab:
    """The environment; its packages are put back as Colab has them by `reset`."""

    def __init__(self, folder: Path):
        self.python = folder / "bin" / "python"
        self.frozen = folder / "frozen.txt"

    def run(self, *words, cwd: Path | None = None, status: int = 0) -> str:
        """What a run of its Python prints, errors included; it must end with `status`."""
        known = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        settings = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        command = [str(word) for word in (self.python, *words)]
        done = subprocess.run(
            command,
            cwd=cwd,
            env=known | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout[-5000:]}"
        return done.stdout

    def pip(self, *words) -> str:
        return self.run("-m", "pip", *words)

    def packages(self) -> list[str]:
        return [line for line in self.pip("freeze", "--all").splitlines() if "==" in line or " @ " in line]

    def reset(self) -> None:
        """Removes what was installed since the environment was built, and installs what was removed."""
        if not self.frozen.is_file():
            self.frozen.write_text("\n".join(self.packages()))
        wanted, there = self.frozen.read_text().splitlines(), self.packages()
        if more := [line.partition("==")[0].partition(" @ ")[0] for line in there if line not in wanted]:
            self.pip("uninstall", "-q", "-y", *more)
        if less := [line for line in wanted if line not in there]:
            self.pip("install", "-q", "--no-deps", *less)


def colab() -> Colab:
    """
    The environment in `.cache/` of this repository, built (in minutes; 3 GB are downloaded) where it is not there yet,
    without this package. The variable `COLAB_VENV` names one that is ready instead.
    """
    if ready := os.environ.get("COLAB_VENV"):
        return Colab(Path(ready))
    complete = FOLDER / "complete"  # the list it was built from
    if not (complete.is_file() and complete.read_text() == PACKAGES.read_text()):
        python = next(_pythons(), None)
        if python is None:
            pytest.skip(f"none of Colab's Pythons is here: {', '.join(PYTHONS)}")
        shutil.rmtree(FOLDER, ignore_errors=True)
        subprocess.run([python, "-m", "venv", FOLDER], check=True, timeout=300)
        Colab(FOLDER).pip("install", "-q", "-r", PACKAGES)
        complete.write_text(PACKAGES.read_text())
    return Colab(FOLDER)


def _pythons() -> Iterator[str]:
    """Those that run: on the path, or of pyenv, whose own names for them work only for a version that is chosen."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for name in PYTHONS:
        number = name.removeprefix("python")
        for found in (shutil.which(name), *sorted(versions.glob(f"{number}.*/bin/python"))):
            if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
                yield str(found)
