"""The table of benchmarks is that of what was measured; one that fails does not stop the others."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.hub.secrets import secrets_in

FOLDER = Path(__file__).parents[2] / "training" / "benchmarks"
sys.path.insert(0, str(FOLDER))
from side_by_side import row  # noqa: E402


@pytest.fixture(scope="module")
def everything():
    spec = importlib.util.spec_from_file_location("all_benchmarks", FOLDER / "all.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def places(everything, tmp_path, monkeypatch):
    """A page, and what is kept, of a project in `tmp_path`, with two benchmarks."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "runs" / "benchmarks").mkdir(parents=True)
    page = tmp_path / "docs" / "results.md"
    page.write_text("before\n<!-- benchmarks -->\nold\n<!-- end of benchmarks -->\nafter\n")
    monkeypatch.setattr(everything, "ROOT", tmp_path)
    monkeypatch.setattr(everything, "PAGE", page)
    monkeypatch.setattr(everything, "KEPT", tmp_path / "benchmarks.json")
    monkeypatch.setattr(everything, "BENCHMARKS", ("one", "two"))
    return page


def measured(*rows: dict, cpu: str = "A CPU", features=("avx2", "amx_bf16")) -> dict:
    hardware = {"cpu": cpu, "cores": 2, "memory_gb": 23.6, "features": list(features)}
    return {
        "rows": list(rows),
        "date": "2026-01-02",
        "seed": 1,
        "python": "3.11.1",
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "hardware": hardware,
        "torch_threads": 2,
        "command": "OMP_NUM_THREADS=2 python training/benchmarks/x.py --folder /home/someone/space",
        "seconds": [1, 2],
    }


STEPS = row("steps", "stock", 1.4, [1.6, 1.5, 1.2], memory_asked=0.7, memory_ratio=0.65, if_missed="why")
SLOW = row(
    "conversion", "copying", 2, [2.5], at_most=True, memory_asked=0.35, memory_ratio=0.3, memory_unit="GB", note="why."
)
START = row("start | help", "", 1, [0.25, 0.35], unit="s", at_most=True, note="cold")
ABSENT = row("instructions", "TRL", 1.8, None, memory_asked=0.7, note="trl is not installed here")


def test_the_table_of_the_docs_is_that_of_what_was_measured(everything):
    text = everything.PAGE.read_text(encoding="utf-8")
    assert everything.with_table(text) == text and len(everything.TABLE.findall(text)) == 1


def test_what_is_kept_tells_nothing_of_the_machine(everything):
    if everything.KEPT.exists():
        assert secrets_in(everything.KEPT.name, everything.KEPT) == []
        assert set(everything.kept()) <= set(everything.BENCHMARKS)


def test_every_benchmark_is_in_the_table(everything):
    benchmarks = {path.stem for path in FOLDER.glob("*.py") if "add_options(parser, __file__" in path.read_text()}
    assert {*everything.BENCHMARKS, *everything.APART} == benchmarks


def test_a_table_has_the_rows_their_notes_and_the_machine(everything, places):
    text = everything.table({"one": measured(STEPS, SLOW), "two": measured(START, ABSENT)})
    assert text.splitlines() == [
        "| question | against | asked | reached (lowest to highest) | memory: asked | reached |",
        "|---|---|---|---|---|---|",
        "| steps | stock | at least 1.40x | 1.50x (1.20x to 1.60x) | at most 0.70x | 0.65x |",
        "| conversion | copying | at most 2.00x | 2.50x | at most 0.35 GB | 0.30 GB |",
        r"| start \| help |  | at most 1.00 s | 0.30 s (0.25 to 0.35) |  |  |",
        "| instructions | TRL | at least 1.80x | not measured | at most 0.70x | not measured |",
        "",
        "- conversion: missed; why.",
        r"- start \| help: cold.",
        "- instructions: trl is not installed here.",
        "",
        "Measured on A CPU with AVX2, AMX-BF16, 2 cores, 2 threads, 24 GB of memory; Python 3.11.1, torch 2.13.0,"
        " transformers 5.23.0; 2026-01-02.",
    ]


def test_a_note_names_the_peer_where_a_question_has_several(everything):
    rows = [row("answers", peer, 1.2, [ratio], if_missed="why") for peer, ratio in (("generate", 1.1), ("TRL", 1.3))]
    assert everything.notes([*rows, ABSENT]) == [
        "- answers, against generate: missed; why.",
        "- instructions: trl is not installed here.",
    ]


def test_rows_of_two_machines_say_which(everything, places):
    *_, first, second = everything.table({"two": measured(SLOW), "one": measured(STEPS, features=[])}).splitlines()
    assert first.startswith("Measured by one on A CPU whose features are not known and without AMX, 2 cores")
    assert second.startswith("Measured by two on A CPU with AVX2, AMX-BF16, 2 cores")


SCRIPT = """
import json, sys
if {fails}: sys.exit(1)
output = sys.argv[sys.argv.index("--output") + 1]
json.dump(json.loads({result!r}) | {{"quick": "--quick" in sys.argv}}, open(output, "w"))
"""


def test_compiled_steps_are_in_the_table_but_not_in_quick(everything, places, tmp_path):
    write_benchmark(tmp_path, "train_step", measured(STEPS))
    script = tmp_path / "training" / "benchmarks" / "train_step.py"
    script.write_text(script.read_text() + "if '--compile' not in sys.argv: sys.exit(1)\n")
    assert everything.run("train_step", False, []) and everything.run("train_step", True, []) is None


def write_benchmark(root: Path, name: str, result: dict, fails: bool = False) -> None:
    folder = root / "training" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(SCRIPT.format(fails=fails, result=json.dumps(result)))


def test_a_failed_benchmark_keeps_its_old_rows_and_the_rest_goes_on(everything, places, tmp_path, capsys):
    write_benchmark(tmp_path, "one", measured(STEPS))
    write_benchmark(tmp_path, "two", measured(START))
    assert everything.main([]) == 0
    write_benchmark(tmp_path, "one", {}, fails=True)
    write_benchmark(tmp_path, "two", measured(SLOW))
    assert everything.main([]) == 1
    assert "error: one failed" in capsys.readouterr().err
    kept = everything.kept()
    assert kept["one"]["rows"] == [STEPS] and kept["two"]["rows"] == [SLOW]
    assert "/home" not in json.dumps(kept) and "seconds" not in kept["one"]
    page = places.read_text()
    assert "| steps |" in page and "| conversion |" in page and "start" not in page
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page


def test_only_what_is_named_is_run_and_quick_keeps_nothing(everything, places, tmp_path):
    write_benchmark(tmp_path, "one", measured(STEPS))
    write_benchmark(tmp_path, "two", {}, fails=True)
    assert everything.main(["--only", "one", "--quick"]) == 0
    assert not everything.KEPT.exists() and "old" in places.read_text()
    assert everything.main(["--only", "one"]) == 0
    assert set(everything.kept()) == {"one"}
    places.write_text(places.read_text().replace("1.50x", "9.99x"))
    write_benchmark(tmp_path, "one", {}, fails=True)
    assert everything.main(["--tables"]) == 0
    assert "1.50x" in places.read_text()


def test_each_benchmark_is_told_where_its_data_is(everything):
    given = ["--messages", "sms", "--instructions", "book.json", "--tokenizer", "gpt2"]
    args = everything.make_parser().parse_args(given)
    assert everything.data_options("spam_finetune", args) == ["--data_file", "sms", "--tokenizer", "gpt2"]
    assert everything.data_options("packing", args) == ["--data_file", "book.json", "--tokenizer", "gpt2"]
    assert everything.data_options("convert", args) == []
    assert everything.data_options("packing", everything.make_parser().parse_args([])) == []
