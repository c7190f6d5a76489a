"""The package as a release has it: built from the files that git knows, and installed outside of the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JUNK = (  # what lies about in a checkout; none of it is in a distribution
    ".env",
    ".venv/lib/secret.py",
    ".cache/token",
    "build/lib/hf_gpt_scratch/stale.py",
    "runs/spam/model.safetensors",
    "hf_gpt_scratch/.env",
    "hf_gpt_scratch/__pycache__/cli.cpython-311.pyc",
    "hf_gpt_scratch/apps/.DS_Store",
    "tests/__pycache__/conftest.cpython-311.pyc",
    "training/runs/small/config.json",
    "training/train.log",
)


def tracked() -> list[str]:
    """The files of the checkout that git knows, as it writes their names."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]  # a container may own it as somebody else
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60).stdout
    return sorted(name for name in listed.decode().split("\0") if name and (ROOT / name).is_file())


@dataclass
class Distributions:
    """
    Attributes:
        source: the folder that they were built from.
        sdist: the source distribution.
        wheel: built from the unpacked `sdist`.
    """

    source: Path
    sdist: Path
    wheel: Path


def build(folder: Path) -> Distributions:
    """Builds both in `folder`, as a release does, from a copy of the tracked files with junk among them."""
    source, out = folder / "source", folder / "dist"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for name in JUNK:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("secret\n")
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Distributions(source, sdist, wheel)


class Installed:
    """
    An environment outside of the checkout in which a distribution is installed; the packages it needs are those here.

    Attributes:
        environment: its folder.
        folder: an empty one, where its programs run.
    """

    def __init__(self, distribution: Path, environment: Path, folder: Path):
        self.environment, self.folder = environment, folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
        # The heavy packages, without what makes the checkout importable from there.
        site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "-q"]
        subprocess.run([*pip, "--no-deps", "--force-reinstall", str(distribution)], check=True, timeout=300)

    def __call__(self, *args: str, program: str = "hf-gpt-scratch", cwd: Path | None = None, **variables: str) -> str:
        """What the installed command, or a `program` of the environment, prints; it must end well."""
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_TOKEN")}
        command, environment = [str(self.environment / "bin" / program), *args], clean | variables
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{args}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout
