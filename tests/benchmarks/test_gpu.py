"""What a GPU has to show: the pieces run on a CPU on tiny shapes; one that fails does not stop the others."""

import argparse
import json
import sys
from pathlib import Path

import pytest

from hf_gpt_scratch.utils.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import gpu  # noqa: E402

CPU = ["--device", "cpu", "--quick"]


def test_the_pieces_run_on_a_cpu_and_are_written(tmp_path):
    chosen = ["steps_bf16", "packing", "decoding", "classification", "spam"]
    gpu.main([*CPU, "--folder", str(tmp_path), "--only", *chosen])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: piece["failed"] for name, piece in result["pieces"].items()} == dict.fromkeys(chosen)
    assert len(result["rows"]) == 6 and all(row["ratio"] for row in result["rows"][:5])
    assert "peak memory" in result["rows"][5]["question"] and result["rows"][5]["note"] == "it ran, on a CPU"
    assert (tmp_path / "gpu.md").read_text().count("\n") == 8


def test_a_piece_that_fails_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    def fails(settings):
        raise RuntimeError("out of memory")

    good = {
        "question": "q",
        "against": "a",
        "asked": None,
        "ratio": None,
        "unit": "x",
        "memory_ratio": None,
        "note": "",
    }
    pieces = {
        "one": gpu.Piece(fails),
        "other": gpu.Piece(lambda settings: [good]),
        "third": gpu.Piece(fails, only_gpu="no"),
    }
    monkeypatch.setattr(gpu, "PIECES", pieces)
    result = gpu.main([*CPU, "--folder", str(tmp_path)])
    assert result["pieces"]["one"]["failed"] == "RuntimeError: out of memory" and list(result["pieces"]) == [
        "one",
        "other",
    ]
    assert "| one | | | failed | | RuntimeError: out of memory |" in (tmp_path / "gpu.md").read_text()
    assert "| q | a |  |  |  |  |" in (tmp_path / "gpu.md").read_text()


def test_the_process_of_a_piece_has_a_limit_and_leaves_its_last_line(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("import sys, time\nif 'slow' in sys.argv: time.sleep(60)\nsys.exit('the last line')")
    monkeypatch.setattr(gpu, "__file__", str(script))
    monkeypatch.setattr(gpu, "PIECES", {"slow": gpu.Piece(print, 0.5), "bad": gpu.Piece(print)})
    args = argparse.Namespace(device="cuda", seed=1, quick=False, folder=tmp_path)
    assert gpu.in_a_process("bad", args, tmp_path) == ([], "the last line")
    assert gpu.in_a_process("slow", args, tmp_path) == ([], "it took more than 0.5 s")


def test_pieces_measured_alone_are_added_to_the_others(tmp_path, monkeypatch):
    row = gpu.pieces.row("q", "a", None, None, note="not here")
    monkeypatch.setattr(gpu, "PIECES", {name: gpu.Piece(lambda settings: [row]) for name in ("one", "other")})
    gpu.main([*CPU, "--folder", str(tmp_path), "--only", "one"])
    gpu.main([*CPU, "--folder", str(tmp_path), "--only", "other"])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert list(result["pieces"]) == ["one", "other"] and len(result["rows"]) == 2


def test_the_table_of_the_results_is_that_of_what_was_measured():
    root = Path(__file__).parents[2]
    measured = json.loads((root / "training" / "results" / "gpu.json").read_text(encoding="utf-8"))
    assert gpu.table(measured["pieces"]) in (root / "docs" / "results.md").read_text(encoding="utf-8")


def test_without_a_gpu_one_sentence_says_so(tmp_path):
    with pytest.raises(InputError, match="There is no GPU here; .*--device cpu --quick"):
        gpu.main(["--folder", str(tmp_path)])
    with pytest.raises(InputError, match="give --quick"):
        gpu.main(["--folder", str(tmp_path), "--device", "cpu"])
