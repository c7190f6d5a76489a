"""
A GPT-2 computed with a checkpoint's own tensors, by their own names and in their own layout, a block at a time.

It shares nothing with the table that converts them nor with the model they become, so that agreement proves both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Arithmetic:
    """
    How a format computes: the names of its tensors, `{i}` for the block, and the layout of its matrices.

    Args:
        query_key_value: the names of three matrices, or of one that holds them side by side.
        in_out: its matrices are `(in, out)` and multiply from the right, `x @ W`; else `(out, in)`.
        norm, linear: the names of a LayerNorm's and a linear layer's two tensors after their prefix.
        lora_scale: what the product of LoRA's two matrices, beside a linear layer, is multiplied by.
        window: how many tokens a token looks at, itself included, in the blocks that have a window; 0 for all of them.
        window_stride: so many blocks with a window are followed by one without; all have it where it is negative.
        divides_by_root, divides_by_layer: whether attention scores are divided by the square root of a head's width,
            and by the number of the block, from 1.
        head: the name of the output matrix, always `(out, in)`, or `None` for the base model's hidden states.
    """

    token_embedding: str
    position_embedding: str
    attention_norm: str
    query_key_value: tuple[str, ...]
    attention_output: str
    mlp_norm: str
    mlp_in: str
    mlp_out: str
    final_norm: str
    head: str | None
    in_out: bool = False
    lora_scale: float | None = None
    window: int = 0
    window_stride: int = -1
    norm: tuple[str, str] = ("weight", "bias")
    linear: tuple[str, str] = ("weight", "bias")
    divides_by_root: bool = True
    divides_by_layer: bool = False
    activation: Callable = lambda x: F.gelu(x, approximate="tanh")

    def with_prefix(self, prefix: str) -> "Arithmetic":
        """The same with `prefix` before every name of a part of the base model."""
        parts = ("token_embedding", "position_embedding", "attention_norm", "attention_output", "mlp_norm")
        names = {part: prefix + getattr(self, part) for part in (*parts, "mlp_in", "mlp_out", "final_norm")}
        return replace(self, **names, query_key_value=tuple(prefix + name for name in self.query_key_value))

    def hidden(self, i: int, length: int) -> torch.Tensor:
        """The pairs of tokens `(T, T)` of which the first does not look at the second in block `i`."""
        ahead = torch.arange(length) - torch.arange(length)[:, None]
        sees_all = self.window == 0 or (self.window_stride >= 0 and i % (self.window_stride + 1) == self.window_stride)
        return ahead > 0 if sees_all else (ahead > 0) | (ahead <= -self.window)


@torch.no_grad()
def logits(tensors, arithmetic: Arithmetic, n_layer: int, n_head: int, epsilon: float, ids: torch.Tensor):
    """`(B, T)` token ids to `(B, T, V)` logits, or `(B, T, C)` hidden states without a head, in fp32."""

    def get(name: str) -> torch.Tensor | None:
        return tensors[name].float() if name in tensors.shapes else None

    def normalize(x, prefix):
        weight, bias = (get(f"{prefix}.{part}") for part in arithmetic.norm)
        return F.layer_norm(x, x.shape[-1:], weight, bias, epsilon)

    def linear(x, prefix, in_out=arithmetic.in_out):
        weight, bias = (get(f"{prefix}.{part}") for part in arithmetic.linear)
        y = x @ (weight if in_out else weight.t())
        y = y if bias is None else y + bias
        if f"{prefix}.lora.A" in tensors.shapes:
            y = y + arithmetic.lora_scale * (x @ get(f"{prefix}.lora.A") @ get(f"{prefix}.lora.B"))
        return y

    length = ids.shape[1]
    x = get(arithmetic.token_embedding)[ids] + get(arithmetic.position_embedding)[:length]
    for i in range(n_layer):
        y = normalize(x, arithmetic.attention_norm.format(i=i))
        joined = torch.cat([linear(y, name.format(i=i)) for name in arithmetic.query_key_value], dim=-1)
        query, key, value = (  # (B, T, C) -> (B, n_head, T, head_dim)
            part.unflatten(-1, (n_head, -1)).transpose(1, 2) for part in joined.chunk(3, dim=-1)
        )
        divisor = query.shape[-1] ** 0.5 if arithmetic.divides_by_root else 1.0
        divisor *= i + 1 if arithmetic.divides_by_layer else 1
        scores = (query @ key.transpose(2, 3) / divisor).masked_fill(arithmetic.hidden(i, length), -torch.inf)
        attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = x + linear(attended, arithmetic.attention_output.format(i=i))
        y = normalize(x, arithmetic.mlp_norm.format(i=i))
        x = x + linear(arithmetic.activation(linear(y, arithmetic.mlp_in.format(i=i))), arithmetic.mlp_out.format(i=i))
    x = normalize(x, arithmetic.final_norm)
    if arithmetic.head is None:
        return x
    if arithmetic.head == arithmetic.token_embedding:
        return x @ get(arithmetic.head).t()
    return linear(x, arithmetic.head.removesuffix(".weight"), in_out=False)
