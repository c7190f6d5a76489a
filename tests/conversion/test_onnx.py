"""An ONNX folder gives the answers of the model that it was written from; in int8 at a cost that is told."""

import json
import math
from collections import Counter

import pytest
import torch

from hf_gpt_scratch import (
    GPTScratchForCausalLM,
    GPTScratchForSequenceClassification,
    GPTScratchForTokenClassification,
    GPTScratchModel,
    TextClassifier,
)
from hf_gpt_scratch.conversion import onnx as onnx_format
from hf_gpt_scratch.conversion import onnx_proof
from hf_gpt_scratch.conversion.onnx import export_onnx
from hf_gpt_scratch.data.columns import columns_trained_on
from hf_gpt_scratch.hub.check import check
from hf_gpt_scratch.model_folder import reference_logits
from hf_gpt_scratch.prompts import CHAT_TEMPLATE
from hf_gpt_scratch.utils import requirements
from hf_gpt_scratch.utils.errors import InputError, UsageError
from hf_gpt_scratch.utils.provenance import sha256
from support.checkpoints import random_weights
from support.commands import run_command
from support.models import TEXTS, save_model

onnx = pytest.importorskip("onnx", reason="pip install -e '.[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install -e '.[onnx]'")
pytest.importorskip("onnxscript", reason="pip install -e '.[onnx]'")

WINDOW = {"n_layer": 2, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
ODD = {"qkv_bias": False, "scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu", "n_inner": 24}
LABELS = {0: "ham", 1: "spam", 2: "news"}


def save(folder, model_class, **settings):
    """A model whose weights are all different, so that its answers tell one input from another."""
    save_model(folder, model_class, n_positions=24, **settings)
    model = random_weights(model_class.from_pretrained(folder))
    model.save_pretrained(folder)
    (folder / reference_logits.FILE).unlink()
    return folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A language model, and what was exported from it."""
    folder = save(
        tmp_path_factory.mktemp("writer") / "model", GPTScratchForCausalLM, chat=CHAT_TEMPLATE, **WINDOW, **ODD
    )
    return folder, export_onnx(folder, folder.parent / "onnx")


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A sequence classifier with a calibration, its export in int8, and what the command printed about that."""
    folder = save(tmp_path_factory.mktemp("judge") / "model", GPTScratchForSequenceClassification, id2label=LABELS)
    config = json.loads((folder / "config.json").read_text())
    config |= {"calibration": {"temperature": 2.0, "outside_threshold": 0.5}, "long_texts": "windows"}
    config["label2id"] = {name: number for number, name in LABELS.items()}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "faq.json").write_text("{}")
    data = {"source": str(folder), "text_column": "body", "label_column": "topic"}
    (folder / "metrics.json").write_text(json.dumps({"command": f"train {folder}", "data": data}))
    return folder, export_onnx(folder, folder.parent / "onnx", "int8")


def session(done):
    return onnxruntime.InferenceSession(done.graph, providers=["CPUExecutionProvider"])


def run(graph, config, ids, mask, past=None):
    """The scores by name, and the keys and values so far, by nothing but onnxruntime."""
    names = [f"{i}.{part}" for i in range(config.n_layer) for part in ("key", "value")]
    past = past or [torch.zeros(len(ids), config.n_head, 0, config.n_embd // config.n_head)] * len(names)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    inputs |= {f"past_key_values.{name}": tensor for name, tensor in zip(names, past)}
    arrays = graph.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    found = {output.name: torch.from_numpy(array) for output, array in zip(graph.get_outputs(), arrays)}
    return found, [found.pop(f"present.{name}") for name in names]


def shapes(values):
    return {one.name: one.shape for one in values}


def test_a_language_model_computes_the_same_with_and_without_its_past(writer):
    folder, done = writer
    model, graph = GPTScratchForCausalLM.from_pretrained(folder).eval(), session(done)
    ids = torch.randint(model.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0  # padded on the left
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, use_cache=False).logits
        without_window = GPTScratchForCausalLM.from_pretrained(folder, sliding_window=24).eval()(ids).logits
    whole, _ = run(graph, model.config, ids, mask)
    assert (whole["logits"] - expected)[mask.bool()].abs().max() < 1e-4
    assert (without_window - expected)[1].abs().max() > 1e-2  # the window of the first block hides something
    first, past = run(graph, model.config, ids[:, :9], mask[:, :9])
    steps = [first["logits"]]
    for step in range(9, 12):
        scores, past = run(graph, model.config, ids[:, step : step + 1], mask[:, : step + 1], past)
        steps.append(scores["logits"])
    assert (torch.cat(steps, 1) - expected)[mask.bool()].abs().max() < 1e-4
    assert done.max_logit_difference < 1e-4


def test_the_graph_has_the_names_that_others_look_for(writer):
    graph = session(writer[1])
    batch, length, past, total = "batch_size", "sequence_length", "past_sequence_length", "total_sequence_length"
    caches = [f"past_key_values.{i}.{part}" for i in range(2) for part in ("key", "value")]
    assert shapes(graph.get_inputs()) == {
        **{"input_ids": [batch, length], "attention_mask": [batch, total], "position_ids": [batch, length]},
        **{name: [batch, 2, past, 16] for name in caches},
    }
    outputs = shapes(graph.get_outputs())
    assert list(outputs) == ["logits", *(name.replace("past_key_values", "present") for name in caches)]
    assert outputs["logits"][:2] == [batch, length]


def test_the_file_holds_the_embeddings_once(writer):
    folder, done = writer
    assert done.graph.stat().st_size < (folder / "model.safetensors").stat().st_size + 50_000
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    large = [list(tensor.dims) for tensor in onnx.load(done.graph).graph.initializer if vocabulary in tensor.dims]
    assert large == [[32, vocabulary]]


def test_what_lies_beside_the_graph(writer):
    folder, done = writer
    ours, theirs = (json.loads((one / "config.json").read_text()) for one in (folder, done.path))
    assert (theirs["model_type"], theirs["architectures"]) == ("gpt2", ["GPT2LMHeadModel"])
    assert "auto_map" not in theirs and not list(done.path.glob("*.py"))
    for name in ("vocab_size", "n_inner", "sliding_window", "layer_types", "qkv_bias", "eos_token_id"):
        assert theirs[name] == ours[name], name
    generation = [json.loads((one / "generation_config.json").read_text()) for one in (folder, done.path)]
    assert generation[0]["eos_token_id"] == generation[1]["eos_token_id"]
    assert (done.path / "tokenizer.json").is_file() and (done.path / "chat_template.jinja").is_file()
    # Where transformers.js looks for the graph's precision, and for the template
    assert theirs["transformers.js_config"] == {"dtype": "fp32"}
    assert json.loads((done.path / "tokenizer_config.json").read_text())["chat_template"] == CHAT_TEMPLATE
    record = json.loads((done.path / "onnx_export.json").read_text())
    assert record["sha256"] == {"model.safetensors": sha256(folder / "model.safetensors")}
    assert record["graph_sha256"] == sha256(done.graph) and record["max_logit_difference"] == done.max_logit_difference
    assert (record["dtype"], record["architecture"]) == ("fp32", "GPTScratchForCausalLM")
    readme = (done.path / "README.md").read_text()
    assert "pipeline_tag: text-generation" in readme and "in fp32" in readme and "onnx/model.onnx" in readme
    for path in (str(folder.parent), "site-packages", onnx_format.__file__):
        assert path not in json.dumps(record) and path.encode() not in done.graph.read_bytes()


def test_a_classifier_in_int8_is_small_and_close(judge):
    folder, done = judge
    model, graph = GPTScratchForSequenceClassification.from_pretrained(folder).eval(), session(done)
    ids = torch.randint(model.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0  # padded on the right
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, output_token_logits=True)
    found, _ = run(graph, model.config, ids, mask)
    scale = expected.token_logits.abs().max()
    assert 0 < (found["token_logits"] - expected.token_logits)[mask.bool()].abs().max() < 0.1 * scale
    assert found["logits"][0].equal(found["token_logits"][0, 6]) and found["logits"][1].equal(
        found["token_logits"][1, 11]
    )
    assert done.graph.name == "model_quantized.onnx" and done.path.joinpath("faq.json").is_file()
    assert columns_trained_on(done.path) == {"text_column": "body", "label_column": "topic"}
    floats = [tensor for tensor in onnx.load(done.graph).graph.initializer if tensor.data_type == 1]
    assert max(math.prod(tensor.dims) for tensor in floats) == 24 * 32  # the position embeddings


@pytest.mark.parametrize("name", ["judge", "writer"])
def test_weights_alone_in_int8_are_closer_and_widened_once(request, tmp_path, name):
    folder, whole = request.getfixturevalue(name)
    graph = export_onnx(folder, tmp_path / "rounded", "int8").graph
    done = export_onnx(folder, tmp_path / "stored", "int8", weights_only=True)
    fp32 = whole.graph if whole.dtype == "fp32" else export_onnx(folder, tmp_path / "fp32").graph
    assert done.graph.name == graph.name and 0 < done.max_logit_difference < 0.03
    assert done.max_logit_difference < 0.75 * export_difference(tmp_path / "rounded")
    held = {
        tensor.name: tensor.data_type for tensor in onnx.load(done.graph).graph.initializer if len(tensor.dims) == 2
    }
    half, looked_up = onnx.TensorProto.FLOAT16, "base.wpe.weight_half"
    assert (
        held[looked_up] == half and sum(kind == half for kind in held.values()) == 2
    )  # those of tokens and positions
    # onnxruntime widens them as it loads the file: what it runs is the graph in fp32
    options = [onnxruntime.SessionOptions() for _ in range(2)]
    for option, path in zip(options, (fp32, done.graph)):
        option.optimized_model_filepath = str(tmp_path / f"{path.stem}.optimized.onnx")
        onnxruntime.InferenceSession(path, option, providers=["CPUExecutionProvider"])
    ran = [Counter(node.op_type for node in onnx.load(one.optimized_model_filepath).graph.node) for one in options]
    assert ran[0] == ran[1]


def export_difference(folder) -> float:
    return json.loads((folder / "onnx_export.json").read_text())["max_logit_difference"]


def test_verdicts_are_those_of_the_model(judge):
    folder, done = judge
    ours, theirs = (TextClassifier.from_pretrained(one, device="cpu") for one in (folder, done.path))
    assert theirs.calibration == ours.calibration and theirs.labels == ours.labels
    text = " ".join(TEXTS[:2] * 4)  # in more windows than one
    before, after = next(ours.classify([text])), next(theirs.classify([text]))
    assert after.probabilities == pytest.approx(before.probabilities, abs=0.1) and not after.truncated


def test_the_cost_is_measured_and_kept(judge, tmp_path):
    from hf_gpt_scratch.evaluation.export_cost import labels_cost, read_labelled

    folder, done = judge
    texts = ("the lamp", "a boat on the sea", "the hill on the sea", "a lamp", "the lamp on the hill", "a sea")
    rows = [f"{text},{label}" for text, label in zip(texts, ("ham", "spam") * 3)]
    (tmp_path / "table.csv").write_text("\n".join(["text,label", *rows]))
    data = read_labelled(folder, tmp_path / "table.csv", None, None)
    cost = labels_cost(folder, done.path, data)
    assert cost["texts"] == 6 and 0 < cost["largest"] < 0.2
    assert json.loads((done.path / "onnx_export.json").read_text())["cost"]["largest"] == cost["largest"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_token_classifier_whose_weights_take_a_file_of_their_own(tmp_path, monkeypatch, dtype):
    from torch.onnx._internal.exporter import _onnx_program

    monkeypatch.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 0)  # as if they were gigabytes
    folder = save(tmp_path / "model", GPTScratchForTokenClassification, id2label=LABELS)
    done = export_onnx(folder, tmp_path / "onnx", dtype)
    assert done.max_logit_difference < (1e-4 if dtype == "fp32" else 0.5)
    assert shapes(session(done).get_outputs())["logits"][-1] == 3
    names = {"fp32": ["model.onnx", "model.onnx.data"], "int8": ["model_quantized.onnx"]}[dtype]
    assert sorted(path.name for path in done.graph.parent.iterdir()) == names


@pytest.mark.parametrize("difference", [1.0, math.nan])
def test_a_proof_that_fails_leaves_nothing(tmp_path, monkeypatch, difference):
    folder = save(tmp_path / "model", GPTScratchForCausalLM)
    monkeypatch.setattr(onnx_format, "write_graph", lambda model, path: path.write_bytes(b""))
    monkeypatch.setattr(onnx_format, "Graph", lambda path: None)
    monkeypatch.setattr(onnx_proof, "difference", lambda *args: difference)
    with pytest.raises(InputError, match="differ from the model's by .*; nothing was written"):
        export_onnx(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_cannot_be_exported(writer, tmp_path, monkeypatch):
    folder = save_model(tmp_path / "model", GPTScratchModel)
    with pytest.raises(InputError, match="holds a GPTScratchModel; ONNX takes only GPTScratchForCausalLM or"):
        export_onnx(folder, tmp_path / "out")
    with pytest.raises(InputError, match="holds an ONNX model, which is for use only"):
        export_onnx(writer[1].path, tmp_path / "out")
    with pytest.raises(
        InputError, match="is an ONNX folder: push the model .* or upload the folder as it is with `hf upload"
    ):
        check(writer[1].path)
    monkeypatch.setattr(requirements, "find_spec", lambda package: None if package == "onnxscript" else package)
    with pytest.raises(InputError, match="Exporting to ONNX needs the package onnxscript: pip install"):
        export_onnx(writer[0], tmp_path / "out")


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--to", "gguf", "--dtype", "int8"], "--dtype int8 does not go with --to gguf; it has f32"),
        (["--to", "onnx", "--dtype", "q8_0"], "--dtype q8_0 does not go with --to onnx; it has fp32, int8"),
        (["--to", "hf-gpt2", "--dtype", "fp32"], "--dtype fp32 does not go with --to hf-gpt2"),
        (["--to", "gguf", "--data_file", "table.csv"], "--data_file only goes with --to onnx"),
        (["--to", "onnx", "--label_column", "label"], "are for the columns of a --data_file"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, words, complaint):
    with pytest.raises(UsageError, match=complaint):
        run_command("export", tmp_path, tmp_path / "out", *words)


def test_each_kind_of_model_has_its_measure(writer, judge, tmp_path):
    (tmp_path / "text.txt").write_text("the lamp on the hill")
    with pytest.raises(UsageError, match="--perplexity-text is for language models"):
        run_command("export", judge[0], tmp_path / "a", "--to", "onnx", "--perplexity-text", tmp_path / "text.txt")
    with pytest.raises(UsageError, match="--data_file is for sequence classifiers"):
        run_command("export", writer[0], tmp_path / "a", "--to", "onnx", "--data_file", tmp_path / "text.txt")
