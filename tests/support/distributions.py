"""Packages that are installed as far as Python can tell."""

from pathlib import Path


def make_distribution(site: Path, name: str, version: str, *requires: str, code: str = "") -> None:
    """Makes a package and its metadata in the folder `site`, which belongs on `sys.path`."""
    module = name.replace("-", "_")
    (site / module).mkdir(parents=True)
    (site / module / "__init__.py").write_text(code)
    metadata = site / f"{module}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata.write_text("\n".join([*lines, *(f"Requires-Dist: {line}" for line in requires)]) + "\n")
    metadata.with_name("top_level.txt").write_text(module + "\n")  # by which transformers finds a module's version
