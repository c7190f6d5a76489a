"""The check of the locked versions against advisories, all of them made up."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "advisories.py"


def advisory(name="web-page", events=({"introduced": "0"}, {"fixed": "2.0"}), ecosystem="PyPI", **other) -> dict:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    entry = {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": ranges,
        "versions": other.pop("versions", []),
    }
    return {"id": "TEST-1", "summary": "Reads any file", "affected": [entry], **other}


@pytest.fixture
def check(tmp_path):
    """Runs the check of one locked package, `web-page`, and returns its exit status, its findings and errors."""

    def run(held, version="1.5"):
        lock, known = tmp_path / "some.lock", tmp_path / "known.json"
        lock.write_text(f"web-page=={version} ; sys_platform == 'linux' \\\n    --hash=sha256:00\n")
        known.write_text(held if isinstance(held, str) else json.dumps(held))
        return start(known, lock)

    return run


def start(*words) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_an_affected_version_is_named_with_its_fix(check):
    status, found, _ = check(advisory("Web_Page", aliases=["CVE-0000-1"]))
    assert (status, found) == (1, "web-page 1.5: TEST-1, CVE-0000-1: Reads any file (fixed in 2.0)\n")


@pytest.mark.parametrize(
    ("version", "events", "affected"),
    [
        ("2.0", [{"introduced": "0"}, {"fixed": "2.0"}], False),
        ("2.0rc1", [{"introduced": "0"}, {"fixed": "2.0"}], True),
        ("1.10", [{"introduced": "1.9"}, {"fixed": "1.11"}], True),  # 1.10 is after 1.9
        ("1.0", [{"introduced": "1.2"}], False),
        ("1.5", [{"introduced": "0"}, {"last_affected": "1.5"}], True),
        ("1.5.post1", [{"introduced": "0"}, {"last_affected": "1.5"}], False),
        ("1.5", [{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "1.4"}, {"fixed": "1.6"}], True),
        ("1.3", [{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "1.4"}, {"fixed": "1.6"}], False),
        ("1.5", [{"introduced": "1.4"}, {"fixed": "1.6"}, {"introduced": "0"}, {"fixed": "1.2"}], True),  # any order
    ],
)
def test_a_range_is_read_as_the_format_says(check, version, events, affected):
    assert check(advisory(events=events), version)[0] == affected


@pytest.mark.parametrize(
    "harmless",
    [
        advisory("another"),
        advisory(ecosystem="npm"),
        advisory(withdrawn="2026-01-01T00:00:00Z"),
        advisory(events=(), versions=["1.4", "2004d"]),
    ],
)
def test_what_does_not_concern_a_locked_version_is_not_named(check, harmless):
    assert check(harmless)[:2] == (0, "")


def test_versions_are_named_one_by_one_too(check):
    status, found, _ = check([advisory("another"), advisory(events=(), versions=["2004d", "1.5.0"])])
    assert status == 1 and "no version is fixed" in found


@pytest.mark.parametrize("broken", ["{", "[]", "[1]", '{"id": "TEST-2"}', [advisory(events=[{"introduced": "one"}])]])
def test_what_cannot_be_read_is_not_taken_for_harmless(check, broken):
    status, _, said = check(broken)
    assert status == 2 and said.count("\n") == 1


def test_a_folder_and_a_zip_are_read(tmp_path):
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "TEST-1.json").write_text(json.dumps(advisory("torch", [{"introduced": "0"}])))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.write(tmp_path / "known" / "TEST-1.json", "TEST-1.json")
    for known in ("known", "all.zip"):  # of this project's own lock
        status, found, _ = start(tmp_path / known)
        assert status == 1 and found.startswith("torch ") and found.count("\n") == 1
    assert start(tmp_path / "absent")[0] == 2
