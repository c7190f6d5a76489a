"""The README and docs/ as tests read them: blocks of code, commands, links and anchors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code, and the heading of level two that it is under."""

    section: str
    language: str
    code: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[Block]:
    """The blocks of a page in order; with a language, only those in it."""
    headings = [(match.start(), match[1]) for match in re.finditer(r"^## (.+)$", text, re.MULTILINE)]
    found = []
    for fence in FENCE.finditer(text):
        section = ([""] + [heading for start, heading in headings if start < fence.start()])[-1]
        found.append(Block(section, fence[1], fence[2]))
    return [block for block in found if not language or block.language == language]


def commands(text: str) -> Iterator[str]:
    """Every `hf-gpt-scratch ...` of a page: in its shell blocks and in its inline code."""
    shell = "\n".join(block.code.replace("\\\n", " ") for block in blocks(text, "bash"))
    lines = [line.partition("  #")[0] for line in shell.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for code in (*lines, *inline):
        for found in re.findall(r"(?:^|[\s(])hf-gpt-scratch( (?:\"[^\"]*\"|'[^']*'|[^;&|\"'()])*)", code):
            yield found.strip().removesuffix(" done").strip()


def links(text: str) -> Iterator[str]:
    """The targets of links and pictures, outside code."""
    prose = re.sub(r"`[^`\n]*`", "`x`", COMMENT.sub("", FENCE.sub("", text)))
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs both make them."""
    prose = FENCE.sub("", text)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()) for title in titles]
    return {title.strip().replace(" ", "-") for title in plain}
