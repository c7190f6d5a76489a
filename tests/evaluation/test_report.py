"""Cards of several runs are compared only where they can be, and the report says what the cards say and no more."""

import errno
import json
import math
import os
import subprocess
import sys

import pytest

from hf_gpt_scratch.evaluation.report import read_groups, short_names
from hf_gpt_scratch.utils.errors import InputError, run_reporting_errors
from hf_gpt_scratch.utils.markdown import markdown_table
from hf_gpt_scratch.utils.result_card import Metric
from support.commands import run_command
from support.reports import ENVIRONMENT, LINEAR, compare, write_card


def table_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_report_of_two_runs(tmp_path):
    write_card(tmp_path / "gpt", baselines={"linear": LINEAR})
    metrics = {"f1": Metric(0.9595), "perplexity": Metric(32.251, [30, 35.5], higher_is_better=False)}
    environment = ENVIRONMENT | {"hardware": {"gpu": "A GPU", "cores": 8}}
    write_card(tmp_path / "lora", metrics=metrics, command="python train.py --lora", environment=environment, seeds=())
    text, _ = compare(tmp_path / "gpt", tmp_path / "lora", out=tmp_path / "report")
    assert text == (
        """\
# Comparison of results

Brackets hold 95 % intervals; the best of a column is bold.

## SMS spam classification

|  | f1 | perplexity |
|---|---|---|
| gpt | 0.9424 [0.9120, 0.9680] | not measured |
| lora | **0.9595** | **32.25** [30.00, 35.50] |
| linear | 0.9559 [0.9300, 0.9700] | 663.00 |

![SMS spam classification](sms-spam-classification.png)

- Baselines: linear
- Protocol: grouped split
- Data: sms.zip (SHA-256 0123456789ab)
- Seeds: 1 (gpt); not recorded (lora)
- Hardware: A CPU, 2 cores, x86_64 (gpt); A GPU, 8 cores (lora)
- Versions: Python 3.12.1, torch 2.9.0, transformers 5.23.0

```sh
# gpt
python train.py
# lora
python train.py --lora
```
"""
    )
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "report.json",
        "report.md",
        "sms-spam-classification.png",
    ]


def test_report_for_programs(tmp_path):
    write_card(tmp_path / "gpt", baselines={"linear": LINEAR})
    _, values = compare(tmp_path / "gpt", out=tmp_path / "report")
    [group] = values["groups"]
    run = group["runs"].pop("gpt")
    assert run["folder"] == str(tmp_path / "gpt")
    assert run["name"] == "test"
    assert run["card"]["environment"] == ENVIRONMENT
    assert run["card"]["command"] == "python train.py"
    f1 = {"value": 0.9424, "interval": [0.912, 0.968], "higher_is_better": True}
    linear = {
        "f1": {"value": 0.9559, "interval": [0.93, 0.97], "higher_is_better": True},
        "perplexity": {"value": 663.0, "interval": None, "higher_is_better": False},
    }
    assert group == {
        "task": "SMS spam classification",
        "protocol": "grouped split",
        "data_sha256": ["0123456789abcdef" * 4],
        "picture": "sms-spam-classification.png",
        "metrics": [{"name": "f1", "higher_is_better": True}, {"name": "perplexity", "higher_is_better": False}],
        "rows": [
            {"name": "gpt", "metrics": {"f1": f1}, "runs": ["gpt"], "is_baseline": False},
            {"name": "linear", "metrics": linear, "runs": ["gpt"], "is_baseline": True},
        ],
        "runs": {},
    }


def test_only_one_task_protocol_and_data_stand_in_a_table(tmp_path):
    other_data = [{"source": "other.zip", "sha256": "f" * 64}]
    changes = {
        "a": {},
        "b": {"task": "SMS spam: classification"},
        "c": {"protocol": "random split"},
        "d": {"data": other_data},
        "e": {"protocol": "random split", "data": other_data},
        "f": {"command": "another", "seeds": [2], "environment": {}},
    }
    for name, change in changes.items():
        write_card(tmp_path / name, **change)
    text, values = compare(*(tmp_path / name for name in changes), out=tmp_path / "report")
    rows = [[row["name"] for row in group["rows"]] for group in values["groups"]]
    assert rows == [["a", "f"], ["c"], ["d"], ["e"], ["b"]]
    pictures = [group["picture"] for group in values["groups"]]
    assert len(set(pictures)) == 5
    assert all((tmp_path / "report" / picture).is_file() for picture in pictures)
    assert "are in 4 tables, since only those of the same protocol and data can be compared." in text
    assert [line for line in text.splitlines() if line.startswith("Not")] == [
        "Not to be compared with table 1 (another protocol).",
        "Not to be compared with table 1 (other data), table 2 (another protocol and other data).",
        "Not to be compared with table 1 (another protocol and other data), table 2 (other data),"
        " table 3 (another protocol).",
    ]
    assert text.count("### Table") == 4


def test_order_of_the_data_does_not_matter(tmp_path):
    data = [{"source": name, "sha256": name * 64} for name in "ab"]
    write_card(tmp_path / "one", data=data)
    write_card(tmp_path / "other", data=data[::-1])
    assert len(read_groups([tmp_path / "one", tmp_path / "other"])) == 1


def test_same_baseline_is_shown_once(tmp_path):
    for run, f1 in {"a": 0.95, "b": 0.95, "c": 0.96}.items():
        write_card(tmp_path / run, baselines={"linear": {"f1": Metric(f1)}, "chance": {"f1": Metric(0.2)}})
    runs = [tmp_path / run for run in "abc"]
    [group] = read_groups(runs)
    assert list(group.rows) == ["a", "b", "c", "linear (a, b)", "linear (c)", "chance"]
    assert group.rows["linear (c)"].metrics == {"f1": Metric(0.96)}
    [group] = read_groups(runs[:2])
    assert list(group.rows) == ["a", "b", "linear", "chance"]


def test_no_row_hides_another_of_its_name(tmp_path):
    write_card(tmp_path / "gpt", "first", baselines={"gpt (first)": LINEAR})
    write_card(tmp_path / "gpt", "second")
    write_card(tmp_path / "gpt (first)")
    [group] = read_groups([tmp_path / "gpt", tmp_path / "gpt (first)"])
    assert list(group.rows) == ["gpt (first)", "gpt (second)", "gpt (first) (again)", "gpt (first) (baseline)"]


def test_names_are_as_short_as_they_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = ["runs/a/spam", "runs/b/spam/", "runs/follower", "runs/../runs/follower", tmp_path / "runs" / "follower"]
    assert list(short_names(runs).values()) == ["a/spam", "b/spam", "follower"]
    assert short_names(["spam", "old/spam"]) == {"spam": "spam", "old/spam": "old/spam"}
    assert short_names(["."]) == {".": tmp_path.name}
    for run in runs[:2]:
        write_card(tmp_path / run)
    text, _ = compare(*runs[:2], out=tmp_path / "report")
    assert [line.split(" | ")[0] for line in table_of(text)[2:]] == ["| a/spam", "| b/spam"]


def test_best_of_a_column_is_bold():
    rows = {
        "a": {"loss": Metric(2.0, higher_is_better=False), "f1": Metric(0.90001), "mcc": Metric(0.5)},
        "b": {"loss": Metric(3.0, higher_is_better=False), "f1": Metric(0.90002)},
        "c": {"loss": Metric(math.nan, higher_is_better=False), "f1": Metric(-0.1)},
    }
    assert markdown_table(rows).splitlines()[2:] == [
        "| a | **2.00** | **0.9000** | 0.5000 |",
        "| b | 3.00 | **0.9000** | not measured |",
        "| c | nan | -0.1000 | not measured |",
    ]
    assert "**" not in markdown_table({"a": rows["a"]})
    assert "**" not in markdown_table({name: {"f1": Metric(0.5)} for name in "ab"})  # nothing is better


def test_the_difference_from_a_reference_is_not_ranked_among_its_own():
    difference = {"f1_above_baseline": Metric(-0.02, [-0.1, 0.05])}
    for reference in ({}, {"f1_above_baseline": Metric(0.0)}):  # the latter as older cards have it
        table = markdown_table({"gpt": difference, "linear": reference}).splitlines()
        assert table[2:] == ["| gpt | -0.0200 [-0.1000, 0.0500] |", "| linear | – |"]
    two = markdown_table({"gpt": difference, "lora": {"f1_above_baseline": Metric(0.01)}, "linear": {}})
    assert "| lora | **0.0100** |" in two and "| linear | – |" in two


@pytest.mark.parametrize(
    "values, texts",
    [
        ([0.94241, 1], ["0.9424", "1.0000"]),
        ([5.123, 57.0], ["5.12", "57.00"]),
        ([0.5, 100], ["0.50", "100.00"]),
        ([32.24, 50257], ["32.24", "50257.00"]),
        ([186.72, 663], ["186.7", "663.0"]),
        ([31.2, 4.5e12], ["31.2", "4.5e+12"]),
        ([3.14e-6, 1e-5], ["3.14e-06", "1.00e-05"]),
        ([0.0, 0.0], ["0.0000", "0.0000"]),
        ([math.inf], ["inf"]),
    ],
)
def test_digits_follow_the_magnitude(values, texts):
    table = markdown_table({str(i): {"x": Metric(value)} for i, value in enumerate(values)}).replace("*", "")
    assert [line.split(" | ")[1].removesuffix(" |") for line in table.splitlines()[2:]] == texts


def test_cards_must_agree_which_way_is_better(tmp_path):
    write_card(tmp_path / "a")
    write_card(tmp_path / "b", metrics={"f1": Metric(0.9, higher_is_better=False)})
    with pytest.raises(InputError, match="disagree whether a higher f1 is better, first that of b;"):
        read_groups([tmp_path / "a", tmp_path / "b"])


def test_marks_of_markdown_are_escaped(tmp_path):
    changes = {
        "task": "a|b\n# c",
        "protocol": "*all* of `it`, <b>",
        "data": [{"source": "my_file[1].zip", "sha256": "0" * 64}],
        "metrics": {"exact|match": Metric(0.5)},
        "baselines": {"_linear_ $x$": {"exact|match": Metric(0.25)}},
        "command": "cat x | python -c 'print(1)' ```\n````",
    }
    write_card(tmp_path / "a|`b`", **changes)
    text, _ = compare(tmp_path / "a|`b`", out=tmp_path / "report")
    assert table_of(text) == [
        "|  | exact\\|match |",
        "|---|---|",
        "| a\\|\\`b\\` | **0.5000** |",
        "| \\_linear\\_ \\$x\\$ | 0.2500 |",
    ]
    for line in (
        "## a\\|b # c",
        "- Protocol: \\*all\\* of \\`it\\`, \\<b>",
        "- Data: my_file\\[1\\].zip (SHA-256 000",
    ):
        assert f"\n{line}" in text
    assert f"\n`````sh\n# a|`b`\n{changes['command']}\n`````\n" in text


def damage(path, **changes) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": []}, "data must each have a source and a sha256"),
        ({"data": [{"source": "x"}]}, "data must each have a source and a sha256"),
        ({"data": None}, "data must each have a source and a sha256"),
        ({"task": 3}, "task, protocol and command must be text"),
        ({"command": " "}, "task, protocol and command must be text"),
        ({"metrics": {}}, "metrics must be numbers"),
        ({"metrics": {"f1": {"value": "0.9"}}}, "metrics must be numbers"),
        ({"baselines": {"linear": {"f1": {"value": None}}}}, "metrics must be numbers"),
        ({"metrics": {"f1": {"value": 0.9, "interval": [0.8]}}}, "metrics must be numbers, with two as the interval"),
        ({"seeds": ["1"]}, "seeds must be whole numbers"),
        ({"environment": {"versions": "2.9"}}, "environment must be an object"),
        ({"metrics": {"f1": {"worth": 1}}}, "is not a result card"),
    ],
)
def test_damaged_card_is_named_and_nothing_written(tmp_path, capsys, changes, message):
    write_card(tmp_path / "good")
    write_card(tmp_path / "bad")
    card = tmp_path / "bad" / "results" / "test.json"
    damage(card, **changes)
    out = tmp_path / "report"
    argv = [str(tmp_path / "good"), str(tmp_path / "bad"), "--output_dir", str(out)]
    assert run_reporting_errors(lambda: run_command("report", *argv)) == 1
    error = capsys.readouterr().err
    assert str(card) in error and message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_failure_leaves_the_former_report(tmp_path, monkeypatch):
    write_card(tmp_path / "gpt")
    out = tmp_path / "report"
    former, _ = compare(tmp_path / "gpt", out=out)
    pictures = (out / "sms-spam-classification.png").read_bytes()

    def half(figure, picture, **_):
        picture.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError):
        compare(tmp_path / "gpt", out=out)
    assert (out / "report.md").read_text() == former
    assert (out / "sms-spam-classification.png").read_bytes() == pictures
    assert len(list(out.iterdir())) == 3


def test_a_disk_that_fills_up_leaves_no_part_of_a_report(tmp_path, monkeypatch):
    write_card(tmp_path / "gpt")
    out = tmp_path / "report"
    compare(tmp_path / "gpt", out=out)
    former = {path: path.read_bytes() for path in out.iterdir()}

    def full(path, value):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_card(tmp_path / "other", task="Another task")
    monkeypatch.setattr("hf_gpt_scratch.evaluation.report.write_json", full)
    with pytest.raises(OSError) as told:
        compare(tmp_path / "gpt", tmp_path / "other", out=out)
    assert told.value.filename == str(out)
    assert {path: path.read_bytes() for path in out.iterdir()} == former


def test_command_line(tmp_path):
    """Without a card it fails in one sentence; before there is something to draw, matplotlib is not imported."""
    code = (
        "import sys, runpy\n"
        "import hf_gpt_scratch.evaluation.report\n"
        "assert 'matplotlib' not in sys.modules\n"
        "del sys.modules['hf_gpt_scratch.evaluation.report']\n"
        "runpy.run_module('hf_gpt_scratch.evaluation.report', run_name='__main__', alter_sys=True)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert run.stderr == (
        f"error: {tmp_path} has no results/*.json; give the output folder of a training or an evaluation.\n"
    )
    assert not (tmp_path / "runs").exists()


def test_usage(capsys):
    for argv, status in (["--help"], 0), ([], 2):
        with pytest.raises(SystemExit) as stop:
            run_command("report", *argv)
        assert stop.value.code == status
    assert "--output_dir" in capsys.readouterr().out
