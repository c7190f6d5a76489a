"""Which ONNX folders load, in which precision and on which device, and what the others and other commands say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_gpt_scratch import TextClassifier, load
from hf_gpt_scratch.evaluation.judge.in_process import ModelJudge
from hf_gpt_scratch.model_folder import contents
from hf_gpt_scratch.onnx_models.model import load_onnx
from hf_gpt_scratch.utils import requirements
from hf_gpt_scratch.utils.errors import InputError
from support.commands import run_command
from support.onnx_folders import exported


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(exported("classifier")[1], tmp_path / "spam"))


def set_config(folder: Path, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_the_precision_is_that_of_the_file(folder):
    for name in ("auto", "fp32", "float32", torch.float32):
        assert load_onnx(folder, dtype=name).dtype == torch.float32
    with pytest.raises(InputError, match="spam holds an ONNX model in fp32, not in int8; omit --dtype.$"):
        load_onnx(folder, dtype="int8")
    shutil.copy(folder / "onnx" / "model.onnx", folder / "onnx" / "model_quantized.onnx")
    assert [load_onnx(folder, dtype=name).dtype for name in ("auto", "int8")] == [torch.float32, torch.int8]
    (folder / "onnx" / "model.onnx").unlink()
    sentences = []
    assert TextClassifier.from_pretrained(folder, report=sentences.append).model.dtype == torch.int8
    assert sentences == ["Using cpu, int8, by onnxruntime."]
    (folder / "onnx" / "model_quantized.onnx").unlink()
    with pytest.raises(InputError, match="holds none of onnx/model.onnx, onnx/model_quantized.onnx; export the model"):
        load_onnx(folder)


def test_it_runs_on_the_cpu(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert TextClassifier.from_pretrained(folder).model.device.type == "cpu"  # where others would go to the GPU
    with pytest.raises(InputError, match="^An ONNX model runs on the CPU here, not on cuda; use --device cpu.$"):
        TextClassifier.from_pretrained(folder, device="cuda")


RUN = "from hf_gpt_scratch.onnx_models.graph import Graph; Graph(Path(sys.argv[1], 'onnx', 'model.onnx'))"
QUANTISE = (
    "from hf_gpt_scratch.conversion.onnx import export_onnx; export_onnx(*map(Path, sys.argv[2:]), dtype='int8')"
)


@pytest.mark.parametrize("code", [RUN, QUANTISE], ids=["run", "quantised"])
def test_onnxruntime_reports_nothing(folder, tmp_path, code):
    """Its telemetry leaves a number of the machine in the folder for temporary files and one in the cache."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP", "HOME", "XDG_CACHE_HOME"), str(home))
    words = [sys.executable, "-c", f"import sys; from pathlib import Path; {code}"]
    subprocess.run([*words, folder, exported("classifier")[0], tmp_path / "int8"], check=True, env=environment)
    left = [path.name for path in home.rglob("*") if path.suffix in (".ses", ".db") or "Microsoft" in path.parts]
    assert left == []


def test_a_missing_onnxruntime_is_named_with_its_extra(folder, monkeypatch):
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^An ONNX model needs the package onnxruntime: pip install .*\[onnx\]'.$"):
        load_onnx(folder)
    with pytest.raises(InputError, match=r"\[onnx\]'.$"):  # before torch is imported
        run_command("classify", folder, "hello")


def test_damaged_and_foreign_files_are_refused(folder):
    import onnx

    path = folder / "onnx" / "model.onnx"
    graph = onnx.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        InputError, match=r"model.onnx cannot be loaded by onnxruntime \(.*\); export the model again.$"
    ):
        load_onnx(folder)
    graph.graph.output.pop()
    onnx.save(graph, path)
    with pytest.raises(
        InputError, match="model.onnx has other inputs and outputs than `hf-gpt-scratch export --to onnx"
    ):
        load_onnx(folder)
    set_config(folder, architectures=["GPT2Model"])
    with pytest.raises(InputError, match="spam holds a GPTScratchModel; expected one of GPTScratchForCausalLM, "):
        load_onnx(folder)


def test_what_needs_the_weights_says_so(folder, tmp_path):
    said = "spam holds an ONNX model, which is for use only; give the model that it was exported from.$"
    refusing = [
        lambda: run_command("export", folder, tmp_path / "out", "--to", "hf-gpt2"),
        lambda: run_command("convert", folder, tmp_path / "out"),
        lambda: run_command("calibrate", folder),
        lambda: load(folder)[0].save_pretrained(tmp_path / "out"),
    ]
    for act in refusing[:-1]:
        with pytest.raises(InputError, match=said):
            act()
    with pytest.raises(InputError, match="^An ONNX model is for use only and cannot be saved; copy its folder.$"):
        refusing[-1]()
    assert not (tmp_path / "out").exists()


def test_other_kinds_of_model_are_named_as_ever():
    with pytest.raises(InputError, match="writer holds a language model, not a classifier"):
        TextClassifier.from_pretrained(exported("writer")[1])
    with pytest.raises(InputError, match="classifier holds a classifier, not a language model"):
        run_command("generate", exported("classifier")[1])


def test_a_judge_is_told_apart_by_its_graph(tmp_path):
    copied = shutil.copytree(exported("writer")[1], tmp_path / "writer")
    identity = ModelJudge(str(copied)).identity
    assert "model.onnx" in identity["files"]


def test_of_a_repository_the_graph_is_downloaded():
    names = ["config.json", "onnx_export.json", "onnx/model_quantized.onnx", "tokenizer.json"]
    assert "onnx/*" in contents._files_to_download("you/spam", names, None)
    assert "onnx/*" not in contents._files_to_download("you/spam", ["config.json", "model.safetensors"], None)
