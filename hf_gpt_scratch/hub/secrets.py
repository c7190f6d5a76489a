"""What must not become public in any file of a repository: tokens, passwords and the paths of this machine."""

import json
import re
import shlex
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from safetensors import SafetensorError, safe_open

from ..utils.provenance import command_words

SECRETS = {
    "a Hugging Face token": r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}",
    "an API key": r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{20,}|AIza[\w-]{30,})"
    r"|(?i:(?<![a-z])api[_-]?key[\"']?\s*[:= ]\s*[\"']?[\w-]{16,})",
    "a GitHub token": r"(?<![A-Za-z0-9])(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}",
    "a GitLab token": r"(?<![A-Za-z0-9])glpat-[\w-]{16,}",
    "a Slack token": r"(?<![A-Za-z0-9])xox[abprs]-[\w-]{10,}",
    "an AWS key": r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])",
    "a bearer token": r"\bBearer [A-Za-z0-9._~+/-]{16,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"://[^/\s:@]*:[^/\s:@{}$<>]+@",  # not one that code fills in
    "a secret": r"(?i:access[_-]?key|secret|password|passwd|auth[_-]?token)[\"']?\s*[:=]\s*[\"']?[\w/+.-]{12,}+(?!\()",
}
# An absolute path of two parts or more; not within a longer path, an address or a link, not an address's own path, and
# not one that every machine has.
UNIX_PATH = (
    r"(?:(?<![\w./~-])(?<!\]\()(?<!href=.)(?<!src=.)|(?<=file://))"
    r"(?!/(?:v\d+|api|dev|etc|bin|usr|path/to)/)/[\w.-]+/[\w.-]+"
    r"|(?<![\w/~])~[A-Za-z_][\w.-]*/[\w.-]+"
)
WINDOWS_PATH = r"(?<![A-Za-z0-9])(?:[A-Za-z]:\\+|[A-Z]:/)(?![\\/])[\w.-]+|(?<![\w\\])\\\\[\w.-]+\\[\w$.-]+"
TEMPLATE = re.compile(r"\{[{%]")  # of Jinja
LINE_END = re.compile(r"\\[nrt](?!\w*\\)")  # in code such as "Q:\n", which is not a folder of a drive
VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt")  # words of the training text, possibly paths
SECRET_OPTION = re.compile(r"--?(?:[\w-]*[_-])?(?:token|key|apikey|secret|password)", re.IGNORECASE)
PATH = re.compile(r"(?:file://)?(?:~[\w.-]*/|/|[A-Za-z]:[\\/]|\.\.[\\/]|\\\\).+", re.DOTALL)
# The folders before a file's name in such a path within a sentence
FOLDERS = re.compile(r"(?<![\w./\\:-])(?:file://)?(?:~?/|[A-Za-z]:[\\/]|\.\.[\\/])(?=[\w.~-])(?:[^\s,;'\"=]+[\\/])?")
HOME = re.compile(r"(?:file://)?/(?:home|Users)/[^/]+/?|[A-Za-z]:\\Users\\[^\\]+\\?")


def secrets_in(name: str, content: Path | bytes, own: tuple[Path, ...] = ()) -> list[str]:
    """
    The secrets and local paths in a file, a sentence each.

    Args:
        name: of the file in the repository.
        content: its path, or its bytes.
        own: folders of this machine, whose names must not appear in any form.
    """
    patterns = [UNIX_PATH, *(rf"(?<![\w./~-]){re.escape(str(path))}(?![\w-])" for path in own if str(path) != "/")]
    problems = []
    try:
        found_texts = list(texts(name, content))
    except UnicodeDecodeError:
        return [f"{name} is not UTF-8 and cannot be searched: save it as UTF-8"]
    for where, text in found_texts:
        place = f" in {where}" if where else ""
        for what, pattern in SECRETS.items():
            if match := re.search(pattern, text):
                problems.append(f"{name} holds {what} ({match.group()[:4]}…){place}: remove it and revoke it")
        if name.rpartition("/")[2] in VOCABULARY:
            continue
        drives = text if name.endswith(".json") and not TEMPLATE.search(text) else LINE_END.sub(" ", text)
        found = [match.group() for pattern in patterns for match in re.finditer(pattern, text)]
        found += [match.group() for match in re.finditer(WINDOWS_PATH, drives)]
        problems += [
            f"{name} holds the path {path!r} of this machine{place}: remove it or make it relative"
            for path in dict.fromkeys(found)
        ]
    return problems


def texts(name: str, content: Path | bytes) -> Iterator[tuple[str, str]]:
    """The texts in a file and where they are: of JSON by key, of safetensors and PNG the metadata, others whole."""
    if name.endswith(".safetensors") and isinstance(content, Path):
        yield from _strings(_safetensors_metadata(content))
        return
    data = content.read_bytes() if isinstance(content, Path) else content
    if name.endswith(".png"):
        yield from _strings(_png_texts(data))
        return
    text = data.decode("utf-8")
    try:
        values = json.loads(text) if name.endswith(".json") else text
    except (ValueError, RecursionError):
        values = text
    yield from _strings(values)


def _strings(values) -> Iterator[tuple[str, str]]:
    """The texts in JSON, each after its key, which may say what it is."""
    pending = [("", "", values)]
    while pending:
        where, key, value = pending.pop()
        if isinstance(value, str):
            yield where, f"{key}: {value}" if key else value
        elif isinstance(value, dict):
            pending += [(f"{where}.{name}" if where else name, name, one) for name, one in value.items()]
            yield from ((where, name) for name, one in value.items() if not isinstance(one, str))
        elif isinstance(value, list):
            pending += [(f"{where}.{i}" if where else str(i), key, one) for i, one in enumerate(value)]


def _safetensors_metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except SafetensorError:
        return {}  # damaged, as another check says


def _png_texts(data: bytes) -> dict[str, str]:
    """
    What a PNG holds besides the picture, by the kind of its chunks (PNG specification, 11.3), or after it. Pillow's
    reader keeps one text of each keyword, and nothing of what follows the picture.
    """
    found, position, kind = {}, 8, b""
    while position + 8 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        chunk = data[position + 8 : position + 8 + length]
        position += 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            text = _inflated(kind, chunk).decode("latin-1").replace("\0", " ")
            found[kind.decode()] = f"{found.get(kind.decode(), '')} {text}"
    return found | ({"what follows the picture": data[position:].decode("latin-1")} if position < len(data) else {})


def _inflated(kind: bytes, chunk: bytes) -> bytes:
    """A chunk's text; in compressed chunks it follows the keyword and, in iTXt, two more fields."""
    keyword, _, rest = chunk.partition(b"\0")
    if kind == b"zTXt":
        packed = rest[1:]
    elif kind == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].split(b"\0", 2)[-1]
    else:
        return chunk
    try:
        return keyword + b" " + zlib.decompressobj().decompress(packed, 100_000_000)
    except zlib.error:
        return chunk


def public_text(text: str) -> str:
    """A sentence with only the file's name in place of each absolute path."""
    return FOLDERS.sub("", text)


def public_source(source: str) -> str:
    """A source as others may read it: of a file only its name, an address without a password."""
    return ", ".join(_public_part(part) for part in source.split(", "))


def _public_part(part: str) -> str:
    if HOME.fullmatch(part):
        return "~"
    if PATH.fullmatch(part):
        return re.split(r"[\\/]", part.removeprefix("file://").rstrip("\\/"))[-1]
    if "://" in part and "@" in urlsplit(part).netloc:
        address = urlsplit(part)
        return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    return part


def public_command(command: str | None) -> str | None:
    """A recorded command without the paths of the machine that it ran on, and without possible secrets."""
    if not command:
        return None
    words, public = command_words(command), []
    for before, word in zip(["", *words], words):
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        name = option or before
        if value and SECRET_OPTION.fullmatch(name):
            value = "..."
        public.append(f"{option}{equals}{_public_part(value)}")
    return shlex.join(public)
