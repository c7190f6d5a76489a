"""What the report keeps: each row of the run that it is of, as it comes, and none of a quick one."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_gpt_scratch.utils.errors import InputError, UsageError

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "reliability"))
from faults import Row  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture
def report(monkeypatch, tmp_path):
    """all.py with parts that a test makes, which keeps what was tried in a folder of the test."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("reliability_all", ROOT / "training" / "reliability" / "all.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path / "reliability.json")
    monkeypatch.setattr(module, "PAGE", tmp_path / "reliability.md")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module.PAGE.write_text("a\n<!-- reliability -->\n<!-- end of reliability -->\nb\n")
    return module


def part(monkeypatch, *rows, name="kill", fails=False):
    def given(settings):
        yield from (row for row in rows if settings.of(row.subject))
        if fails:
            raise RuntimeError("a defect")

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(rows=given))


def kept(report) -> dict:
    return {name: [row for run in runs for row in run["rows"]] for name, runs in report.kept().items()}


def test_rows_are_kept_with_their_run_and_replace_those_of_the_same(report, monkeypatch, tmp_path):
    part(monkeypatch, Row("killed", "spam", 2, 1, 1), Row("killed", "chat", 2, 2))
    assert report.main(["--only", "kill"]) == 1
    part(monkeypatch, Row("killed", "spam", 3, 3), Row("killed", "chat", 3, 3))
    assert report.main(["--only", "kill", "--subjects", "spam", "--seed", "5"]) == 0
    runs = report.kept()["kill"]
    assert [[(row["subject"], row["tries"]) for row in run["rows"]] for run in runs] == [[("chat", 2)], [("spam", 3)]]
    assert [run["seed"] for run in runs] == [123, 5] and runs[1]["command"].endswith("--subjects spam --seed 5")
    page = report.PAGE.read_text()
    assert "| killed | spam | 3 | 3 | 0 |  |  |" in page and "Tried by kill on " in page and page.endswith("\nb\n")
    assert report.main(["--only", "kill"]) == 0  # all of the part anew
    assert len(report.kept()["kill"]) == 1 and len(kept(report)["kill"]) == 2


def test_what_was_tried_before_a_part_failed_is_kept(report, monkeypatch):
    part(monkeypatch, Row("killed", "spam", 2, 2), fails=True)
    with pytest.raises(RuntimeError):
        report.main(["--only", "kill"])
    assert [row["subject"] for row in kept(report)["kill"]] == ["spam"]


@pytest.mark.parametrize("row", [Row("f", "s", 2, 1), Row("f", "s", 2, 2, 1), Row("f", "s", 2, 2, executed=1)])
def test_a_row_that_is_not_good_is_the_status(report, monkeypatch, row):
    part(monkeypatch, row)
    assert report.main(["--only", "kill", "--quick"]) == 1 and not report.KEPT.exists()


def test_a_package_that_is_missing_is_named_before_anything_is_tried(report, monkeypatch):
    part(monkeypatch, Row("killed", "spam", 2, 2))
    monkeypatch.setattr("hf_gpt_scratch.utils.requirements.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"The report needs the package hypothesis: pip install .*\[test\]'\."):
        report.main(["--only", "kill"])
    assert not report.KEPT.exists()


def test_the_table_of_the_page_is_that_of_what_is_kept(report):
    tried = json.loads((ROOT / "training" / "results" / "reliability.json").read_text(encoding="utf-8"))
    assert report.table(tried) in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_subject_has_its_row():
    """A part that was run in pieces might lack one."""
    pytest.importorskip("resource", reason="the parts are limited as Unix does it")
    import foreign_places
    import kill
    import kill_runs
    import kill_training
    import messages
    import model_readers
    import reader_subjects
    import starve_subjects

    named = {
        "kill": {("killed", subject.name) for subject in kill.subjects()}
        | {(fault, module.SPAM.name) for module in (kill_training, kill_runs) for fault in module.FAULTS},
        "starve": {("starved", subject.name) for subject in starve_subjects.SUBJECTS}
        | {("bad server", "download of a data set")},
        "readers": {("lied to", name) for name in reader_subjects.READERS | model_readers.READERS | messages.READERS},
        "foreign_code": {("foreign code", place.name) for place in foreign_places.PLACES},
    }
    tried = json.loads((ROOT / "training" / "results" / "reliability.json").read_text(encoding="utf-8"))
    for part, names in named.items():
        assert {(row["fault"], row["subject"]) for run in tried[part] for row in run["rows"]} == names


def test_a_word_that_no_subject_has_is_told(report, monkeypatch):
    part(monkeypatch, Row("killed", "spam", 2, 2))
    with pytest.raises(UsageError, match=r"^Nothing in kill has a name with one of spma\.$"):
        report.main(["--only", "kill", "--subjects", "spma"])
    assert not report.KEPT.exists()


def test_another_system_is_told(report, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="those of Linux"):
        report.main(["--only", "kill"])
    assert report.main(["--tables"]) == 0
