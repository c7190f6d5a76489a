"""
Causal attention with dropout for training on a CPU: "sdpa_dropout", which is transformers' "sdpa" for all else.

With dropout, torch's attention on a CPU takes the plain path: it computes the half of the scores that the causal mask
then hides, draws a random float for each, and keeps three tensors of the scores' size for the backward pass. Here the
queries are taken a block at a time, each with the keys up to its last token; 16 random bits decide on a weight; the
weights and a mask of bytes are what is kept. Only the jobs of this package use it, while they train; no saved
configuration names it.
"""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..modeling_gpt_scratch import random_keep_mask

NAME = "sdpa_dropout"
BLOCK = 128  # queries at a time


def use_dropout_attention(model: PreTrainedModel) -> None:
    """Lets a model that is trained on a CPU use this attention, unless its attention is another than "sdpa"."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """
    `sdpa_attention_forward`, whose arguments and result these are.

    Args:
        query, key, value: `(B, n_head, T, head_dim)`.

    Returns:
        the attended values `(B, T, n_head, head_dim)`, and `None` for the attention weights.
    """
    is_known = attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.ndim == 4)
    if dropout == 0 or not is_known or query.shape[2] != key.shape[2] or torch.compiler.is_compiling():
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    return causal_attention(query, key, value, attention_mask, dropout, scaling).transpose(1, 2), None


def causal_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """
    Attention in which each token sees itself and the tokens before it, as F.scaled_dot_product_attention computes it.

    Args:
        query, key, value: `(B, n_head, T, head_dim)`.
        mask: `(B, 1, T, T)`, False where a token may not look besides; it hides later tokens too.
        dropout: the probability with which a weight is dropped.
        scaling: what the scores are multiplied by; by default the inverse root of `head_dim`.

    Returns:
        the attended values `(B, n_head, T, head_dim)`.
    """
    if not 0 < dropout < 1 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(
            query, key, value, mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
        )
    return _DropoutAttention.apply(query, key, value, mask, dropout, scaling or query.shape[-1] ** -0.5)


class _DropoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, dropout, scaling):
        shape = query.shape
        # (B, n_head, T, head_dim) -> (B * n_head, T, head_dim)
        query, key, value = (states.flatten(0, 1) for states in (query * scaling, key, value))
        attended, kept, begins = torch.empty_like(query), [], range(0, shape[2], BLOCK)
        with torch.autocast("cpu", enabled=False):
            for begin in begins:
                end = min(begin + BLOCK, shape[2])
                scores = torch.bmm(query[:, begin:end], key[:, :end].transpose(1, 2))  # (B * n_head, BLOCK, end)
                weights = _hide(scores, mask, shape, begin, end).softmax(-1)
                keep, scale = random_keep_mask(weights.shape, dropout)
                torch.bmm(weights * keep, value[:, :end], out=attended[:, begin:end])
                kept += [weights, keep]
            attended *= scale
        ctx.shape, ctx.scaling, ctx.scale = shape, scaling, scale
        ctx.save_for_backward(query, key, value, *kept)
        return attended.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        query, key, value, *kept = ctx.saved_tensors
        grad = grad.flatten(0, 1) * ctx.scale
        query_grad = torch.empty_like(query)
        key_grad, value_grad = torch.zeros_like(key), torch.zeros_like(value)
        with torch.autocast("cpu", enabled=False):
            for number, (weights, keep) in enumerate(zip(kept[::2], kept[1::2])):
                end = weights.shape[2]
                block = slice(number * BLOCK, end)
                value_grad[:, :end].baddbmm_((weights * keep).transpose(1, 2), grad[:, block])
                weights_grad = torch.bmm(grad[:, block], value[:, :end].transpose(1, 2)).mul_(keep)
                scores_grad = torch.ops.aten._softmax_backward_data(weights_grad, weights, -1, weights.dtype)
                torch.bmm(scores_grad, key[:, :end], out=query_grad[:, block])
                key_grad[:, :end].baddbmm_(scores_grad.transpose(1, 2), query[:, block])
        grads = (states.view(ctx.shape) for states in (query_grad * ctx.scaling, key_grad, value_grad))
        return *grads, None, None, None


def _hide(scores, mask, shape, begin, end):
    """Makes the scores `(B * n_head, block, end)` of tokens that are not seen as low as they can be, in place."""
    lowest = torch.finfo(scores.dtype).min
    if mask is not None:
        hidden = ~mask[:, :, begin:end, :end]  # (B, 1, block, end)
        scores.view(shape[0], shape[1], end - begin, end).masked_fill_(hidden, lowest)
    else:
        later = torch.ones(end - begin, end - begin, dtype=torch.bool).triu(1)
        scores[:, :, begin:].masked_fill_(later, lowest)
    return scores


ALL_ATTENTION_FUNCTIONS.register(NAME, attention_forward)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
