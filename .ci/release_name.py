"""
Ends with status 1 unless the tag, the package's version and the topmost heading of CHANGELOG.md, with its date, agree.

    python .ci/release_name.py v0.2.0
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version(root: Path) -> str:
    tree = ast.parse((root / "hf_gpt_scratch" / "__init__.py").read_text(encoding="utf-8"))
    (value,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    )
    return value


def top_heading(root: Path) -> tuple[str, str]:
    """The version and the date, or "unreleased", of the topmost heading."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.search(r"(?m)^## \[(\S+)\] - (\S+)$", text).groups()


def fault(tag: str, root: Path = ROOT) -> str | None:
    """What does not agree, in a sentence."""
    heading, date = top_heading(root)
    if tag != f"v{version(root)}":
        return f"The tag is {tag}, but __version__ is {version(root)}; tag v{version(root)} or set the version."
    if heading != version(root):
        return f"CHANGELOG.md begins with {heading}, but __version__ is {version(root)}; write what has changed."
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        return f"CHANGELOG.md calls {heading} {date}; write its date."
    return None


if __name__ == "__main__":
    sys.exit(fault(sys.argv[1]))
