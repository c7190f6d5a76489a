"""
The source distribution and the wheel, as a release builds them: what they hold, and that they work elsewhere.

    pytest -m packaging tests/release
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from hf_gpt_scratch import __version__
from support.built import JUNK, Installed, tracked

pytestmark = pytest.mark.packaging
STEM = f"hf_gpt_scratch-{__version__}"
MADE = {"PKG-INFO", "setup.cfg"} | {  # by setuptools
    f"hf_gpt_scratch.egg-info/{name}"
    for name in (
        "PKG-INFO",
        "SOURCES.txt",
        "dependency_links.txt",
        "entry_points.txt",
        "requires.txt",
        "top_level.txt",
    )
}


@pytest.fixture(scope="module")
def unpacked(distributions, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(distributions.sdist) as file:
        file.extractall(folder, filter="data")
    return folder / STEM


def test_the_names_carry_the_version(distributions):
    assert distributions.sdist.name == f"{STEM}.tar.gz"
    assert distributions.wheel.name == f"{STEM}-py3-none-any.whl"


def test_the_source_distribution_is_the_repository(distributions, unpacked):
    """Every file that git knows, and no other: no runs, caches, secrets."""
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert there == set(tracked()) | MADE
    assert all((distributions.source / name).is_file() for name in JUNK)  # they lay where it was built


def test_twine_accepts_both(distributions):
    command = [sys.executable, "-m", "twine", "check", "--strict", distributions.sdist, distributions.wheel]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_metadata_says_what_pyproject_says(distributions):
    with zipfile.ZipFile(distributions.wheel) as file:
        metadata = Parser().parsestr(file.read(f"{STEM}.dist-info/METADATA").decode())
    assert (metadata["Version"], metadata["Requires-Python"]) == (__version__, ">=3.11")
    assert metadata["License-Expression"] == "MIT"
    pythons = {one.rpartition(" ")[2] for one in metadata.get_all("Classifier") if "Python :: 3." in one}
    assert pythons == {"3.11", "3.12", "3.13", "3.14"}


def test_the_installed_source_distribution_trains_and_generates(distributions, tmp_path):
    """In an environment and a folder of their own, from the data that the source distribution carries."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    run = Installed(distributions.sdist, tmp_path / "environment", elsewhere)
    assert run("--version").strip() == f"hf-gpt-scratch {__version__}"
    assert "hf-gpt-scratch train pretrain" in run("train", "pretrain", "--help")
    story = distributions.source / "training" / "demo_data" / "story.txt"
    tiny = ("--max_steps", "2", "--train_tokenizer", "500", "--n_embd", "32", "--n_layer", "2", "--use_cpu", "true")
    run("train", "pretrain", "cpu_small", "--data_file", str(story), "--output_dir", "writer", *tiny)
    assert run("generate", "writer", "--prompt", "The", "--max-new-tokens", "4", "--device", "cpu").startswith("The")


def test_tests_run_from_the_unpacked_source_distribution(unpacked):
    files = ["tests/test_imports.py", "tests/docs/test_pages.py", "tests/release", "tests/utils/test_files.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
