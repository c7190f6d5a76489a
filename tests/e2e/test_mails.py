"""The script that makes a spam data set of e-mails, on a package made here."""

import csv
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

TRAINING = Path(__file__).parents[2] / "training"
PRIZE = "You have won the grand prize of our summer draw, click here to claim it before the end of the month"
HAM = """From: ann@example.org
Subject: Re: [ilug] The clock of {town}
Content-Type: text/plain

On Monday Bob wrote:
> Is it right?
    Date: Wed, 21 Aug 2002 10:54:46
    X-Mailer: clocks
It stood still in {town}, see http://example.org/{town} or ask bob@example.org.
_______________________________________________
Irish Linux Users' Group
"""
SPAM = """Subject: Prize {number}
Content-Type: text/html; charset="no-such-charset"

<html><body><p>{prize}</p><p>Yours, number {number}</p></body></html>
"""


@pytest.fixture(scope="module")
def mails():
    sys.path.insert(0, str(TRAINING))
    import mails

    return mails


@pytest.fixture
def packages(tmp_path, mails, monkeypatch) -> Path:
    """A folder with a package of the corpus's layout, whose hash the settings name."""
    towns = [f"Town{chr(65 + i)}burgh" for i in range(12)]
    files = {f"package/data/easy-ham-1/{i:02}.txt": HAM.format(town=town) for i, town in enumerate(towns)}
    files |= {f"package/data/spam-1/{i:02}.txt": SPAM.format(number=i, prize=PRIZE) for i in range(3)}
    topics = ["loans", "watches", "pills", "stocks", "travel", "phones", "software", "degrees", "casino", "insurance"]
    files |= {
        f"package/data/spam-2/{i:02}.txt": SPAM.format(number=i, prize=f"Cheap {topic} only today")
        for i, topic in enumerate(topics)
    }
    files["package/data/spam-2/90.txt"] = "Subject: \n\n"
    files["package/README.md"] = "not a mail"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "mails.tgz").write_bytes(content.getvalue())
    source = {"name": mails.PACKAGE, "sha256": hashlib.sha256(content.getvalue()).hexdigest()}
    monkeypatch.setattr(yaml, "safe_load", lambda text: [source])
    return folder


def test_marks_of_the_lists_are_gone_and_near_copies_stay_together(mails, packages, tmp_path, capsys):
    mails.main(["--output", str(tmp_path / "mails.csv"), "--packages", str(packages)])
    with open(tmp_path / "mails.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["text"] == "The clock of TownAburgh\nIt stood still in TownAburgh, see LINK or ask ADDRESS."
    assert rows[12] == {**rows[12], "label": "spam", "text": f"Prize 0\n{PRIZE}\nYours, number 0"}
    assert len({row["split"] for row in rows if PRIZE in row["text"]}) == 1
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert capsys.readouterr().out == (
        f"{tmp_path / 'mails.csv'}: 12 ham and 13 spam in 23 groups of near-copies; 1 without a text were omitted.\n"
    )


def test_the_seed_alone_decides_the_split(mails, packages, tmp_path):
    written = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        mails.main(["--output", str(tmp_path / name), "--packages", str(packages), "--seed", seed])
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1] != written[2]
