"""The benchmark of a training step: equal models, the products of a step, where its time goes."""

import sys
from pathlib import Path

import numpy
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "training" / "benchmarks"))
import side_by_side  # noqa: E402
import train_step  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models")
    side_by_side.stock_and_ours(folder, "tiny", vocab_size=300)
    return str(folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_train_from_the_same_outputs(models, precision):
    settings = {"precision": precision, "compiled": False, "batch": (2, 16), "seed": 0}
    steps = {name: train_step.make_step(models, name, **settings) for name in ("stock", "ours")}
    outputs = {name: step() for name, step in steps.items()}
    assert [count for count, _ in outputs.values()] == [32, 32]
    found = {name: output for name, (_, output) in outputs.items()}
    assert train_step.difference(found) is None
    logits, loss = found["ours"]
    assert train_step.difference(found | {"ours": (logits + numpy.float32(0.01), loss)}).startswith("logits by 0.0")


def test_the_products_are_those_of_all_linear_layers(models):
    from hf_gpt_scratch import GPTScratchForCausalLM

    model = GPTScratchForCausalLM.from_pretrained(f"{models}/ours")
    shapes = train_step.Counter(
        (layer.in_features, layer.out_features) for layer in model.modules() if type(layer).__name__ == "Linear"
    )
    (head,) = shapes.keys() - train_step.product_shapes("tiny").keys()
    assert head == (64, 300)  # GPT-2's has 50257
    shapes[(64, train_step.VOCABULARY)] = shapes.pop(head)
    assert shapes == train_step.product_shapes("tiny")


def test_the_profile_names_the_parts_of_a_step(models, monkeypatch):
    import torch

    from hf_gpt_scratch import modeling_gpt_scratch

    for owner, name in ((modeling_gpt_scratch.ByteMaskDropout, "forward"), (torch.nn.Dropout, "forward")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # to be put back
    for name in ("scaled_dot_product_attention", "cross_entropy"):
        monkeypatch.setattr(torch.nn.functional, name, getattr(torch.nn.functional, name))
    for model in ("stock", "ours"):
        seconds = train_step.profile(models, model, "fp32", (2, 16), 0)
        parts = {"linear layers", "loss", "attention", "dropout", "GELU", "LayerNorm", "optimizer", "embeddings"}
        assert parts | {"rest"} <= seconds.keys() and all(seconds[part] > 0 for part in parts)
