"""
A model as an ONNX folder, for onnxruntime and, in a browser or Node, transformers.js.

The layout is transformers.js': `onnx/model.onnx`, and beside that folder what else makes up the model. config.json
keeps the model's own settings under stock GPT-2's name, since graphs are all that is different about it for whoever
loads one. transformers.js needs no option to find the graph, since config.json names its precision under
`transformers.js_config`, and finds the chat template in tokenizer_config.json, which is all that it reads.
`onnx_export.json` says what it was made from; a folder that has it is an ONNX folder.
"""

import math
import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from .. import modeling_gpt_scratch
from ..data.columns import columns_trained_on
from ..model_folder import reference_logits
from ..model_folder.contents import FAQ_FILE, ModelFolder
from ..model_folder.loading import load_model
from ..model_folder.onnx_files import FILES
from ..modeling_gpt_scratch import GPTScratchPreTrainedModel
from ..onnx_models.graph import Graph
from ..utils.constants import ONNX_RECORD
from ..utils.errors import InputError
from ..utils.files import atomic_folder, scratch_folder, write_json
from ..utils.provenance import environment, public_name, sha256
from ..utils.requirements import TO_ONNX, require_package
from ..utils.terminal import plain
from . import hf_gpt2, onnx_proof
from .generation_settings import generation_config
from .onnx_card import card
from .onnx_graph import OPSET, write_graph
from .onnx_int8 import quantize, store
from .tokenizers import copy_tokenizer, inline_chat_template

ARCHITECTURES = {theirs: ours for theirs, ours in hf_gpt2.ARCHITECTURES.items() if hf_gpt2.HEADS[theirs]}
JAVASCRIPT_DTYPES = {"fp32": "fp32", "int8": "q8"}  # transformers.js' names
TOLERANCE = 1e-4  # of the largest logit, for fp32
BESIDE = (FAQ_FILE, "LICENSE")  # copied; no record, as records name paths of this machine


@dataclass(frozen=True)
class OnnxExport:
    """An ONNX folder, the file in it, its precision, and how far its logits are from the model's."""

    path: Path
    graph: Path
    dtype: str
    max_logit_difference: float


def export_onnx(
    src: str | os.PathLike[str], out: str | os.PathLike[str], dtype: str = "fp32", weights_only: bool = False
) -> OnnxExport:
    """
    Writes a language model, a sequence classifier or a token classifier of this package as an ONNX folder, runs it
    with onnxruntime and compares it with the model: with and without a cache, padded on either side.

    A calibration stays beside the graph, in config.json, so that logits can be compared.

    Args:
        src: a folder of this package's model, or a Hub repository of one.
        out: the folder to make; it must not exist yet.
        dtype: "fp32", or "int8", whose error is returned and not limited.
        weights_only: of int8: only the file is in 8 bits, and what is computed in fp32. That is closer, and as fast as
            fp32 is.

    Raises:
        InputError: when `src` is not such a model, a package is missing, or the logits differ; then nothing is left
            behind.
    """
    for package in TO_ONNX:
        require_package(*package)
    folder = ModelFolder.resolve(str(src))
    stock = _stock_architecture(folder)
    model = load_model(getattr(modeling_gpt_scratch, folder.architecture), folder).eval()
    config, rows = model.config, onnx_proof.batches(model.config)
    expected = onnx_proof.answers(model, rows)
    with atomic_folder(out) as partial:
        graph = partial / FILES[dtype]
        graph.parent.mkdir()
        _write(model, graph, dtype, weights_only)
        difference = onnx_proof.difference(Graph(graph), config, rows, expected)
        _require_close(difference, expected, dtype)
        _write_beside(folder, partial, stock, dtype)
        record = _record(src, folder, dtype, graph, difference)
        write_json(partial / ONNX_RECORD, record)
        (partial / "README.md").write_text(plain(card(folder, record, FILES[dtype])), encoding="utf-8")
    return OnnxExport(Path(out), Path(out) / FILES[dtype], dtype, difference)


def _stock_architecture(folder: ModelFolder) -> str:
    """The name of stock GPT-2's class for the model; raises `InputError` where the folder holds none with a head."""
    folder.require_native()
    names = {ours: theirs for theirs, ours in ARCHITECTURES.items()}
    if folder.architecture not in names:
        raise InputError(f"{folder} holds a {folder.architecture}; ONNX takes only {' or '.join(names)}.")
    return names[folder.architecture]


def _write(model: GPTScratchPreTrainedModel, path: Path, dtype: str, weights_only: bool) -> None:
    if dtype == "fp32":
        write_graph(model, path)
        return
    with scratch_folder(path.parent) as scratch:
        exported = Path(scratch, "model.onnx")
        embeddings = write_graph(model, exported)
        store(exported, path) if weights_only else quantize(exported, path, embeddings)


def _require_close(difference: float, expected: list[dict[str, torch.Tensor]], dtype: str) -> None:
    largest = max(values.abs().max().item() for one in expected for values in one.values())
    limit = TOLERANCE * max(1.0, largest) if dtype == "fp32" else math.inf
    if not (math.isfinite(difference) and difference <= limit):
        raise InputError(f"The ONNX graph's logits differ from the model's by {difference}; nothing was written.")


def _write_beside(folder: ModelFolder, out: Path, stock: str, dtype: str) -> None:
    """What makes up the model besides its graph: settings, tokenizer, and what was said about it."""
    settings = folder.config.to_dict()
    for name in ("auto_map", "custom_pipelines"):  # code, which an ONNX folder does not have
        settings.pop(name, None)
    own = {"model_type": "gpt2", "architectures": [stock], "n_ctx": folder.config.n_positions, "dtype": "float32"}
    own["transformers.js_config"] = {"dtype": JAVASCRIPT_DTYPES[dtype]}
    write_json(out / "config.json", {**settings, **own})
    if stock == "GPT2LMHeadModel":
        generation_config(folder.path, folder.config).save_pretrained(out)
    copy_tokenizer(folder.path, out, folder.config.n_positions)
    inline_chat_template(out)
    for name in BESIDE:
        if (folder.path / name).is_file():
            shutil.copyfile(folder.path / name, out / name)
    columns = columns_trained_on(folder.path)
    if named := {name: columns[name] for name in ("text_column", "label_column") if columns.get(name)}:
        write_json(out / "metrics.json", {"data": named})


def _record(src: str | os.PathLike[str], folder: ModelFolder, dtype: str, graph: Path, difference: float) -> dict:
    reference = folder.path / reference_logits.FILE
    facts = environment()
    facts["versions"] |= {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")}
    return {
        "source": public_name(str(src)),
        "architecture": folder.architecture,
        "dtype": dtype,
        "opset": OPSET,
        "sha256": {name: sha256(folder.path / name) for name in sorted(folder.weight_files)},
        "graph_sha256": sha256(graph),
        "reference_logits_sha256": sha256(reference) if reference.is_file() else None,
        "max_logit_difference": difference,
        "calibration": "beside, in config.json" if hasattr(folder.config, "calibration") else None,
        **facts,
    }
