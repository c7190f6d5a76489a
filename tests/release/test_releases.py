"""A release's tag, version and heading in CHANGELOG.md agree; the workflows run on the Pythons that are promised."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from hf_gpt_scratch import __version__
from support.built import ROOT

SPEC = importlib.util.spec_from_file_location("release_name", ROOT / ".ci" / "release_name.py")
release_name = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(release_name)


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def test_the_version_is_the_topmost_of_the_changelog():
    heading, date = release_name.top_heading(ROOT)
    assert heading == __version__ == release_name.version(ROOT)
    assert re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", date)


@pytest.mark.parametrize(
    ("tag", "version", "heading", "said"),
    [
        ("v1.2.0", "1.2.0", "[1.2.0] - 2026-01-31", None),
        ("1.2.0", "1.2.0", "[1.2.0] - 2026-01-31", "The tag is 1.2.0, but"),
        ("v1.3.0", "1.2.0", "[1.3.0] - 2026-01-31", "The tag is v1.3.0, but"),
        ("v1.2.0", "1.2.0", "[1.1.0] - 2026-01-31", "begins with 1.1.0, but"),
        ("v1.2.0", "1.2.0", "[1.2.0] - unreleased", "calls 1.2.0 unreleased"),
    ],
)
def test_a_tag_that_does_not_agree_makes_no_release(tmp_path: Path, tag, version, heading, said):
    (tmp_path / "hf_gpt_scratch").mkdir()
    (tmp_path / "hf_gpt_scratch" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n\n## [1.0.0] - 2025-01-31\n")
    found = release_name.fault(tag, tmp_path)
    assert found is None if said is None else said in found


def test_a_release_is_built_once_and_needs_no_stored_token():
    jobs = workflow("release.yml")["jobs"]
    built = [step["run"] for job in jobs.values() for step in job["steps"] if "-m build" in step.get("run", "")]
    assert len(built) == 1 and "twine check --strict" in built[0]
    assert any("release_name.py" in step.get("run", "") for step in jobs["build"]["steps"])
    assert jobs["publish"]["needs"] == "build" and jobs["publish"]["permissions"]["id-token"] == "write"
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


def test_ci_runs_every_python_that_the_metadata_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [one.rpartition(" ")[2] for one in project["classifiers"] if "Python :: 3." in one]
    matrix = workflow("ci.yml")["jobs"]["quick"]["strategy"]["matrix"]
    assert matrix["python"] == named and project["requires-python"] == f">={named[0]}"
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_every_text_file_is_opened_with_its_encoding():
    """Else Windows reads and writes it in the encoding of its region."""
    folders = ["hf_gpt_scratch", "hf_gpt_scratch_cli.py", ".ci"]
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--preview",
        "--isolated",
        "--output-format",
        "concise",
    ]
    command = [*ruff, "--select", "PLW1514", *folders]
    if (found := subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)).returncode:
        pytest.fail(found.stdout + found.stderr)
