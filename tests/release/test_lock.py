"""requirements.lock: the tested versions, each with the hashes of its files."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def locked() -> dict[str, Requirement]:
    """What each line asks for, by its name; it has hashes and nothing else."""
    found = {}
    body = re.sub(r"(?m)^#.*\n", "", text("requirements.lock"))
    for line in filter(None, re.sub(r" \\\n +", " ", body).splitlines()):
        asked, *hashes = re.split(r" (?=--hash)", line)
        assert hashes and all(HASH.fullmatch(one) for one in hashes), line
        one = Requirement(asked)
        assert canonicalize_name(one.name) not in found
        found[canonicalize_name(one.name)] = one
    return found


def pinned() -> dict[str, str]:
    lines = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_every_version_is_the_tested_one(locked):
    tested = pinned()
    assert {name: str(one.specifier) for name, one in locked.items() if name in tested} == {
        name: f"=={tested[name]}" for name in locked if name in tested
    }
    # The rest is only for other Pythons, systems and CPUs, or the CUDA of PyTorch on Linux.
    untested = [one for name, one in locked.items() if name not in tested and one.marker is None]
    assert [one.name for one in untested] == ["setuptools"]


def test_every_requirement_is_locked_to_a_version_that_it_admits(locked):
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    named = {*extras["docs"], *extras["test"], *extras["trl"]}
    for extra in ("apps", "eval", "onnx", "qlora", "lora"):  # that `test` names
        named |= set(extras[extra])
    for one in map(Requirement, [*project["dependencies"], *named]):
        if one.name != project["name"]:
            (version,) = locked[canonicalize_name(one.name)].specifier
            assert one.specifier.contains(version.version), str(one)


def test_the_lower_bounds_are_declared():
    """Else an installation may take a version from years ago."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    every = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    asked = [one for one in map(Requirement, every) if one.name != project["name"]]
    assert [str(one) for one in asked if [part.operator for part in one.specifier] != [">="]] == []


def test_no_address_is_in_it():
    """Whoever installs it says from where."""
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|@", text("requirements.lock"))
