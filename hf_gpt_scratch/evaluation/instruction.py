"""How well a model follows instructions, as far as numbers without a judge tell: perplexity, stopping, repetition."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..data.packing import IGNORED, LanguageModelCollator

DEFINITIONS = {
    "eval_loss": "mean cross-entropy in nats of the tokens that the training learns: all of them, or with mask_prompt"
    " those of the response",
    "perplexity": "exp of the mean cross-entropy of all tokens but the first, the end token included",
    "response_perplexity": "the same of the response's tokens, the end token included",
    "stop_rate": "share of the generated responses that end in the end token",
    "repetition_rate": "seq-rep-4 (Welleck et al. 2020): share of a response's 4-grams of tokens that repeat an"
    " earlier one, averaged over the responses",
    "tokens_per_second": "generated tokens, end tokens included, by the seconds that generating all responses took",
}


@torch.inference_mode()
def perplexities(
    model: PreTrainedModel, rows: Sequence[Mapping[str, Sequence[int]]], pad_token_id: int, batch_size: int = 8
) -> dict[str, float]:
    """
    Cross-entropy of encoded rows (`input_ids`, `labels`, `prompt_length`), each token counting alike.

    Returns:
        `eval_loss`, `perplexity` and `response_perplexity`, as `DEFINITIONS` says.
    """
    collate = LanguageModelCollator(pad_token_id)
    sums = torch.zeros(3, 2, dtype=torch.float64)  # loss and number of the learned, all, and the response's tokens
    was_training = model.training
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    for start in range(0, len(rows), batch_size):
        batch_rows = [rows[i] for i in order[start : start + batch_size]]
        batch = {name: value.to(model.device) for name, value in collate(batch_rows).items()}
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        targets = batch["input_ids"][:, 1:]  # (B, T - 1)
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2).float(), targets, reduction="none")
        is_real = batch["attention_mask"][:, 1:].bool()
        prompt_lengths = torch.tensor([row["prompt_length"] for row in batch_rows], device=targets.device)
        position = torch.arange(1, batch["input_ids"].shape[1], device=targets.device)
        is_response = is_real & (position >= prompt_lengths[:, None])
        for number, counted in enumerate((batch["labels"][:, 1:] != IGNORED, is_real, is_response)):
            sums[number] += torch.stack([losses[counted].double().sum(), counted.sum()]).cpu()
    model.train(was_training)
    learned, everything, response = (sums[:, 0] / sums[:, 1]).tolist()
    return {"eval_loss": learned, "perplexity": math.exp(everything), "response_perplexity": math.exp(response)}


def repetition_rate(responses: Iterable[Sequence[int]], n: int = 4) -> float:
    """
    The mean over responses of the share of their n-grams of tokens that repeat an earlier one: seq-rep-n (Welleck et
    al. 2020, "Neural Text Generation with Unlikelihood Training"); 0 for a response of fewer than n tokens.
    """
    rates = []
    for ids in responses:
        grams = list(zip(*(ids[i:] for i in range(n))))
        rates.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return sum(rates) / len(rates)
