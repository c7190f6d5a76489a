"""The pictures of a report: what they show, that nothing overlaps, and which of an earlier report are replaced."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from hf_gpt_scratch.evaluation import report
from hf_gpt_scratch.evaluation.report import read_groups
from hf_gpt_scratch.utils.result_card import Metric
from support.reports import LINEAR, compare, write_card


def test_pictures_of_an_earlier_report_are_replaced_and_other_files_stay(tmp_path):
    for name, task in {"a": "One task", "b": "Another task"}.items():
        write_card(tmp_path / name, task=task)
    out = tmp_path / "report"
    compare(tmp_path / "a", tmp_path / "b", out=out)
    (out / "mine.png").write_bytes(b"mine")
    compare(tmp_path / "b", out=out)
    assert sorted(path.name for path in out.iterdir()) == ["another-task.png", "mine.png", "report.json", "report.md"]
    values = json.loads((out / "report.json").read_text())
    values["groups"][0]["picture"] = "../mine.png"  # no name that a report gives
    (tmp_path / "mine.png").write_bytes(b"mine")
    (out / "report.json").write_text(json.dumps(values))
    compare(tmp_path / "a", out=out)
    assert (tmp_path / "mine.png").exists() and (out / "mine.png").exists()


def test_picture_shows_runs_and_baselines(tmp_path):
    def colours(path) -> set:
        with Image.open(path) as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        return {tuple(colour) for colour in pixels.tolist()}

    blue, orange = (0, 114, 178), (213, 94, 0)
    write_card(tmp_path / "alone")
    compare(tmp_path / "alone", out=tmp_path / "report")
    picture = tmp_path / "report" / "sms-spam-classification.png"
    assert blue in colours(picture) and orange not in colours(picture)
    write_card(tmp_path / "alone", baselines={"linear $x_": LINEAR})
    compare(tmp_path / "alone", out=tmp_path / "report")
    assert {blue, orange} <= colours(picture)


def panels_of(group, path, monkeypatch) -> list:
    """The axes of the picture of `group`."""
    from matplotlib import figure

    kept = []
    savefig = figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, *args, **kw: (kept.append(self), savefig(self, *args, **kw))
    )
    report.plot_group(group, path)
    return kept[0].axes


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # matplotlib 3.10 of pyparsing 3.3; these are UserWarnings, too
@pytest.mark.filterwarnings("error::UserWarning")
def test_picture_holds_the_numbers_without_overlap(tmp_path, monkeypatch):
    names = ["perplexity", "f1", "accuracy", "cost", "fifth"]
    metrics = {name: Metric(0.9, [0.85, 0.925]) for name in names[1:]}
    lower = {"higher_is_better": False}
    baselines = {
        "uniform": {"perplexity": Metric(50257.0, **lower), "f1": Metric(math.nan)},
        "a name so long $\\frac$ that it needs more than a single line of text": {
            "perplexity": Metric(663.0, **lower)
        },
    }
    for run, perplexity in {"a": 32.2, "b": 34.5}.items():
        both = {"perplexity": Metric(perplexity, [30, 36.0], **lower), **metrics}
        write_card(tmp_path / run, metrics=both, baselines=baselines)
    panels = panels_of(*read_groups([tmp_path / "a", tmp_path / "b"]), tmp_path / "x.png", monkeypatch)
    titles = [panel.get_title() for panel in panels]
    assert titles == ["perplexity\n(lower is better)", *(f"{name}\n(higher is better)" for name in names[1:4])]
    assert [panel.get_xscale() for panel in panels] == ["log", "linear", "linear", "linear"]
    lines = [(line.get_xdata(), line.get_ydata()) for line in panels[0].lines]
    points = [(x[0], y[0]) for x, y in lines if len(x) == 1]
    assert points == [(32.2, 0), (34.5, 1), (50257.0, 2), (663.0, 3)]
    assert [(list(x), list(y)) for x, y in lines if len(x) == 2] == [([30, 36.0], [0, 0]), ([30, 36.0], [1, 1])]
    assert [text.get_text() for text in panels[1].texts] == ["nan", "not measured"]
    for labels in (panels[0].get_yticklabels(), *(panel.get_xticklabels() for panel in panels)):
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        assert len(boxes) > 1
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert panels[0].get_yticklabels()[3].get_text().count("\n") == 1
