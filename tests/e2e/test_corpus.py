"""The corpus script on packages made here, one of each registry's kind: what it keeps, cleans, refuses and says."""

import gzip
import hashlib
import io
import json
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
import yaml

from hf_gpt_scratch.data.text import Part, load_text
from hf_gpt_scratch.errors import InputError
from hf_gpt_scratch.tokenizer import END_TOKEN

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
ENTRIES = f"""
clock

   <time> A {{machine}} that tells the time of the day by hands that
   go round. (1994-11-08)

table

   |--------|--------|
   |  12    |   34   | 5678 9012 3456 7890
{END_TOKEN.strip("<|>")}
"""


def tgz(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def deb(files: dict[str, bytes]) -> bytes:
    """As dpkg makes it: `ar` around a version, a control archive (of an odd length, so padded) and the data."""
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tgz(files, "w:xz")}
    ar = b"!<arch>\n"
    for name, content in parts.items():
        ar += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        ar += content + b"\n" * (len(content) % 2)
    return ar


def wheel(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def r_strings(lines: list[str]) -> bytes:
    data = b"X\n" + b"".join(b"\x00\x04\x00\x09" + len(line).to_bytes(4) + line.encode() for line in lines)
    return len(data).to_bytes(4) + zlib.compress(data)


WORDS = {
    "clock": {"meanings": [{"def": "a machine", "speech_part": "noun", "example": "the clock struck ten o'clock"}]},
    "clock bug": {"meanings": [{"def": "a bug of the genus Clock", "speech_part": "noun", "synonyms": ["bug"]}]},
}
LINES = ["EMMA", "", "Emma Woodhouse, handsome, clever, and rich, with a", "comfortable home and happy disposition."]
PACKAGES = {  # name: (package, how its files are read, which files are)
    "words-1.0.tgz": (tgz({"package/data/c.json": json.dumps(WORDS).encode()}), "wordset", "/data/"),
    "mail-1.0.tgz": (
        tgz(
            {"p/1.txt": EMAIL.encode(), "p/2.txt": EMAIL.encode(), "p/3.txt": PLAIN_EMAIL.encode(), "p/4.txt": b"\xff"}
        ),
        "email",
        r"\.txt$",
    ),
    "sayings-1.0.whl": (wheel({"f/sayings": f"{PROSE}\n%\n{'01:23 ' * 20}".encode(), "f/x": b"0"}), "fortunes", "s$"),
    "dict_1.0_all.deb": (deb({"./d.dict.dz": gzip.compress(ENTRIES.encode())}), "dictionary", "dz$"),
    "novels_1.0_all.deb": (deb({"./Rdata.rdb": r_strings(LINES) + r_strings([SECOND])}), "r_strings", "rdb$"),
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
        described = {"name": name.split("-")[0].split("_")[0], "version": "1.0", "licence": "MIT", "page": "none"}
        hashed = hashlib.sha256(package).hexdigest()
        sources.append({**described, "url": f"nowhere://{name}", "sha256": hashed, "read": read, "files": files})
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
            "clock: A machine that tells the time of the day by hands that go round.",
            SECOND,
            "EMMA\nEmma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition.",
        ]
    )
    assert json.loads((tmp_path / "out" / "sources.json").read_text()) == result
    assert {source["name"]: source["documents"] for source in result["sources"]} == {
        "words": 1,
        "mail": 2,
        "sayings": 1,
        "dict": 1,
        "novels": 2,
    }
    assert result["characters"] == len(text) - 7 * len(END_TOKEN)
    as_pretraining_reads_it = Part(load_text(tmp_path / "out" / "corpus.txt"), 0)
    assert sum(ends for _, ends in as_pretraining_reads_it.pieces()) == 7


def test_the_same_packages_make_the_same_file(corpus, packages, tmp_path):
    hashes = {run(corpus, packages, tmp_path / name)["sha256"] for name in ("a", "b")}
    assert len(hashes) == 1


def test_what_a_test_asks_is_left_out(corpus, packages, tmp_path):
    held = tmp_path / "test.json"
    held.write_text('{"text": "nobody in the House could say when IT was."}')
    result = run(corpus, packages, tmp_path / "out", "--exclude", str(held))
    assert "nobody in the house" not in (tmp_path / "out" / "corpus.txt").read_text()
    assert {source["name"]: source["excluded"] for source in result["sources"]}["mail"] == 1
    assert result["documents"] == 5


def test_long_documents_are_cut_between_sentences(corpus):
    parts = list(corpus.cut(f"{PROSE} " * 300))
    assert len(parts) > 3 and max(map(len, parts)) <= corpus.LONGEST
    assert all(part.startswith("The old") and part.endswith("it was.") for part in parts)
    assert " ".join(parts) == " ".join([PROSE] * 300)
    assert "".join(corpus.cut("x" * 20000)) == "x" * 20000


def test_a_package_that_changed_or_cannot_be_had_leaves_nothing(corpus, packages, tmp_path):
    package = packages / "novels_1.0_all.deb"
    package.write_bytes(package.read_bytes() + b"more")
    with pytest.raises(InputError, match="is not novels 1.0 as it was"):
        run(corpus, packages, tmp_path / "out")
    package.unlink()
    with pytest.raises(InputError, match="novels_1.0_all.deb could not be downloaded .*--packages"):
        run(corpus, packages, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["packages"]


def test_the_named_packages_are_complete(corpus):
    sources = yaml.safe_load((TRAINING / "configs" / "corpus.yaml").read_text())
    for source in sources:
        assert hasattr(corpus, f"read_{source['read']}") and len(source["sha256"]) == 64 and source["licence"]
        assert source["url"].startswith("https://") and source["version"].split("-")[0] in source["url"]
