"""What a precision costs: the same model in two of them, on the same texts."""

import copy
import math

import pytest
import torch

from hf_gpt_scratch import GPTScratchForCausalLM, GPTScratchForSequenceClassification, TextClassifier
from hf_gpt_scratch.evaluation.precision_cost import in_precision, perplexity_cost, probability_difference
from hf_gpt_scratch.utils.int8 import is_int8
from support.models import save_model


@pytest.mark.parametrize("dtype", ["int8", "bf16"])
def test_a_copy_in_another_precision(tiny_config, dtype):
    model = GPTScratchForCausalLM(tiny_config)
    changed = in_precision(model, dtype)
    assert is_int8(changed) == (dtype == "int8") and not is_int8(model)
    assert changed.dtype == (torch.bfloat16 if dtype == "bf16" else torch.float32) and model.dtype == torch.float32


def test_the_perplexities_are_of_the_same_tokens(tiny_config):
    torch.manual_seed(0)
    model = GPTScratchForCausalLM(tiny_config).eval()
    changed = copy.deepcopy(model)
    changed.lm_head.weight.data *= 1.5
    rows = [torch.randint(100, (2, 30)), torch.randint(100, (1, 10))]
    found = perplexity_cost(model, changed, rows)
    with torch.no_grad():
        losses = [model(ids, labels=ids, use_cache=False).loss.item() for ids in rows]
    assert found["perplexity"] == pytest.approx(math.exp((losses[0] * 58 + losses[1] * 9) / 67))
    assert found["cost"] == pytest.approx(found["changed"] / found["perplexity"] - 1) != 0


def test_labels_and_probabilities_are_compared(tmp_path):
    names = {0: "ham", 1: "spam"}
    folder = save_model(tmp_path / "model", GPTScratchForSequenceClassification, id2label=names)
    one, other = (TextClassifier.from_pretrained(folder, device="cpu") for _ in range(2))
    texts = ["the lamp", "a boat on the sea"]
    assert probability_difference(one, other, texts) == {"equal_labels": 1.0, "largest": 0.0, "mean": 0.0}
    other.model.score.weight.data[1] += 100 * other.model.score.weight.data[0].abs()
    found = probability_difference(one, other, texts)
    before, after = ([prediction.probabilities for prediction in c.classify(texts)] for c in (one, other))
    changes = [abs(x[0] - y[0]) for x, y in zip(before, after)]
    assert found["largest"] == pytest.approx(max(changes)) and found["mean"] == pytest.approx(sum(changes) / 2)
