"""What a faster precision costs: the same model in two precisions, compared on the same texts."""

import copy
import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..classification.classifier import TextClassifier
from ..classification.prediction import Prediction
from ..data.losses import row_losses
from ..utils.int8 import quantize_linears


def in_precision(model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    """A copy of a float32 model on the CPU in "bf16" or "int8"."""
    changed = copy.deepcopy(model)
    if dtype == "int8":
        quantize_linears(changed)
        return changed
    return changed.to(torch.bfloat16)


@torch.inference_mode()
def perplexity_cost(
    model: PreTrainedModel, changed: PreTrainedModel, rows: Sequence[torch.Tensor]
) -> dict[str, float]:
    """
    The `perplexity` of a language model over rows of token ids `(B, T)`, that of its copy, `changed`, and the `cost`:
    by which share the copy's is higher.
    """
    sums = torch.zeros(2, 2, dtype=torch.float64)
    for ids in rows:
        for number, one in enumerate((model, changed)):
            sums[number] += row_losses(one(ids, use_cache=False).logits, ids).sum(0).double()
    before, after = (math.exp(loss / count) for loss, count in sums.tolist())
    return {"perplexity": before, "changed": after, "cost": after / before - 1}


def probability_difference(
    classifier: TextClassifier, changed: TextClassifier, texts: Sequence[str]
) -> dict[str, float]:
    """
    Of the same texts by both: the share of `equal_labels`, and of each text's largest difference of a label's
    probability the `largest` and the `mean`.
    """
    return predictions_difference(list(classifier.classify(texts)), list(changed.classify(texts)))


def predictions_difference(before: Sequence[Prediction], after: Sequence[Prediction]) -> dict[str, float]:
    """What `probability_difference` returns, of two classifiers' predictions on the same texts."""
    differences = [
        max(abs(x - y) for x, y in zip(one.probabilities, other.probabilities)) for one, other in zip(before, after)
    ]
    equal = sum((one.label, one.labels) == (other.label, other.labels) for one, other in zip(before, after))
    return {
        "equal_labels": equal / len(before),
        "largest": max(differences),
        "mean": sum(differences) / len(differences),
    }
