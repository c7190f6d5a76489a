"""The loss of each token, from which every perplexity here is made: exp of its mean over tokens that count alike."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F
from transformers import EvalPrediction, PreTrainedModel

from .packing import IGNORED, LanguageModelCollator


def token_losses(logits: torch.Tensor, labels: torch.LongTensor) -> torch.Tensor:
    """The cross-entropy in nats of each token `(B, T)` but the first, `(B, T - 1)`; 0 where the label is -100."""
    return F.cross_entropy(logits[:, :-1].transpose(1, 2).float(), labels[:, 1:], reduction="none")


def row_losses(logits: torch.Tensor, labels: torch.LongTensor) -> torch.Tensor:
    """
    For each row `(B, T)` the sum of the losses of its targets and how many they are, `(B, 2)`: Trainer's
    `preprocess_logits_for_metrics`, so that it need not keep the logits.
    """
    return torch.stack([token_losses(logits, labels).sum(-1), (labels[:, 1:] != IGNORED).sum(-1)], dim=-1)


def mean_loss(evaluation: EvalPrediction) -> dict[str, float]:
    """
    Trainer's `compute_metrics` for `row_losses`: the mean over all targets, where Trainer's own is one over batches,
    and its `perplexity`.
    """
    total, targets = evaluation.predictions.astype(float).sum(axis=0)
    return {"loss": total / targets, "perplexity": float(np.exp(total / targets))}


@torch.inference_mode()
def perplexities(
    model: PreTrainedModel, rows: Sequence[Mapping[str, Sequence[int]]], pad_token_id: int, batch_size: int = 8
) -> dict[str, float]:
    """
    Cross-entropy of encoded conversations (`input_ids`, `labels`, `prompt_length`, and `answers`, where each answer
    begins and ends, if there are several), each token counting alike.

    Returns:
        `eval_loss`, `perplexity` and `response_perplexity`, as `evaluation.instruction.DEFINITIONS` says; and where
        there are second or later answers, `later_response_perplexity`.
    """
    collate = LanguageModelCollator(pad_token_id)
    # Loss and number of the learned, all, the responses' tokens, and of these the ones of second and later answers
    sums = torch.zeros(4, 2, dtype=torch.float64)
    was_training = model.training
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    for start in range(0, len(rows), batch_size):
        batch_rows = [rows[i] for i in order[start : start + batch_size]]
        batch = {name: value.to(model.device) for name, value in collate(batch_rows).items()}
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        losses = token_losses(logits, batch["input_ids"])
        is_real = batch["attention_mask"][:, 1:].bool()
        turn = _answer_numbers(batch_rows, batch["input_ids"].shape[1]).to(losses.device)[:, 1:]
        for number, counted in enumerate((batch["labels"][:, 1:] != IGNORED, is_real, turn > 0, turn > 1)):
            sums[number] += torch.stack([losses[counted].cpu().double().sum(), counted.sum().cpu()])
    model.train(was_training)
    learned, everything, response, later = (sums[:, 0] / sums[:, 1]).tolist()
    found = {"eval_loss": learned, "perplexity": math.exp(everything), "response_perplexity": math.exp(response)}
    return found | ({"later_response_perplexity": math.exp(later)} if sums[3, 1] else {})


def _answer_numbers(rows: Sequence[Mapping], length: int) -> torch.LongTensor:
    """Of which answer each token of the rows is, `(B, T)`: 1 for the first; 0 for prompts and padding."""
    numbers = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in zip(numbers, rows):
        spans = row.get("answers") or [(row["prompt_length"], len(row["input_ids"]))]
        for turn, (start, end) in enumerate(spans, start=1):
            number[start:end] = turn
    return numbers
