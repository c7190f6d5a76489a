"""
Which locked versions have a known vulnerability, by advisories on this disk. Nothing is asked of the network.

    python .ci/advisories.py ADVISORIES [requirements.lock]

ADVISORIES is a JSON file in the OSV format (https://ossf.github.io/osv-schema), a list of such, or a folder or zip of
them, such as OSV's own export for PyPI. Versions are compared as PEP 440 says. The exit status is 1 where one is
affected, and 2 where an advisory cannot be read.
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LOCK = Path(__file__).parents[1] / "requirements.lock"


class Unreadable(Exception):
    """An advisory that cannot be read, and so would say nothing."""


def locked(path: Path) -> dict[str, Version]:
    """The versions that a lock file or constraints.txt names."""
    lines = re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"))
    if not lines:
        raise Unreadable(f"{path} names no version; give a lock file.")
    return {canonicalize_name(name): Version(version) for name, version in lines}


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for one in sorted(path.rglob("*.json")):
            yield str(one), one.read_bytes()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            for name in sorted(name for name in file.namelist() if name.endswith(".json")):
                yield f"{path}/{name}", file.read(name)
    else:
        yield str(path), path.read_bytes()


def advisories(path: Path) -> Iterator[dict]:
    """Those that were not withdrawn. Raises `Unreadable` where there is none at all, or one is not of the format."""
    found = 0
    for name, content in files(path):
        try:
            held = json.loads(content)
            for one in held if isinstance(held, list) else [held]:
                one["id"], one["affected"]
                found += 1
                if not one.get("withdrawn"):
                    yield one
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreadable(f"{name} is no OSV advisory ({type(error).__name__}: {error}).") from None
    if not found:
        raise Unreadable(f"{path} holds no advisory.")


def is_affected(version: Version, affected: dict) -> bool:
    """Whether an advisory's entry for a package names the version, or a range has it."""
    for one in affected.get("versions", ()):
        try:
            if Version(one) == version:
                return True
        except InvalidVersion:
            continue  # such as 2004d: none that can be installed
    return any(
        is_in_range(version, one["events"]) for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"
    )


def is_in_range(version: Version, events: list[dict]) -> bool:
    """As the OSV specification evaluates it: the last event at or below the version decides."""
    at = [(_event_version(event), event) for event in events if "limit" not in event]
    inside = False
    for bound, event in sorted(at, key=lambda pair: pair[0]):
        if "introduced" in event and version >= bound:
            inside = True
        elif "fixed" in event and version >= bound or "last_affected" in event and version > bound:
            inside = False
    return inside


def _event_version(event: dict) -> Version:
    ((_, version),) = event.items()
    return Version("0.dev0" if version == "0" else version)


def fixes(version: Version, affected: dict) -> list[str]:
    """The versions above this one that mend it, lowest first."""
    events = [event for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM" for event in one["events"]]
    fixed = {Version(event["fixed"]) for event in events if "fixed" in event}
    return [str(one) for one in sorted(fixed) if one > version]


def findings(versions: dict[str, Version], known: Iterator[dict]) -> Iterator[str]:
    for advisory in known:
        for affected in advisory["affected"]:
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") != "PyPI" or name not in versions:
                continue
            try:
                if not is_affected(versions[name], affected):
                    continue
                mended = " or ".join(fixes(versions[name], affected))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Unreadable(f"{advisory['id']} has a range that cannot be read ({error}).") from None
            aliases = "".join(f", {alias}" for alias in advisory.get("aliases", ()))
            what = f"{name} {versions[name]}: {advisory['id']}{aliases}: {advisory.get('summary', 'no summary')}"
            yield f"{what} ({f'fixed in {mended}' if mended else 'no version is fixed'})"


def main(argv: list[str]) -> int:
    if len(argv) not in (1, 2) or argv[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        versions = locked(Path(argv[1]) if len(argv) == 2 else LOCK)
        found = list(dict.fromkeys(findings(versions, advisories(Path(argv[0])))))
    except (Unreadable, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for line in found:
        print(line)
    print(f"{len(found)} advisories for {len(versions)} locked packages.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
