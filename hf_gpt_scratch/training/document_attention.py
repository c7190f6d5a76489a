"""
The attention of packed rows by document, on a CPU: "sdpa_documents", which is `causal_attention`'s for all other rows.

"sdpa" hides the documents of a row from each other by a mask `(B, 1, T, T)`, and computes all that it hides. Here each
document is attended to by itself, so that a row costs the sum of its documents' squares. On a GPU that would be many
small kernels: there the mask stays. Only the jobs of this package use it, while they train; no saved configuration
names it.
"""

from collections.abc import Callable
from itertools import groupby

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, TrainingArguments
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .causal_attention import attention_forward, causal_attention

NAME = "sdpa_documents"


def attend_by_document(model: PreTrainedModel, training_args: TrainingArguments) -> bool:
    """
    Lets a model that is trained on a CPU attend by document where its rows are packed; says whether it does. It does
    not where the training is compiled, the attention is another than transformers' "sdpa", or blocks have a sliding
    window.
    """
    config = model.config
    has_window = "sliding_attention" in (getattr(config, "layer_types", None) or [])
    if training_args.device.type != "cpu" or training_args.torch_compile:
        return False
    if config._attn_implementation != "sdpa" or has_window:
        return False
    model.set_attn_implementation(NAME)
    return True


def document_lengths(
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Callable,
    attention_mask: torch.Tensor | None = None,
    allow_is_causal_skip: bool = True,
    use_vmap: bool = False,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **kwargs,
) -> torch.Tensor | None:
    """
    What a model's "mask" is: for packed rows on a CPU the lengths of their documents, `(number of documents,)`, one
    row after the other; for anything else the mask of "sdpa", whose arguments these are.
    """
    is_packed = (
        not allow_is_causal_skip  # a mask is needed, and that ...
        and attention_mask is None  # ... not because of padding,
        and not use_vmap  # nor of a mask function of the caller's,
        and q_length == kv_length > 1  # nor of a cache,
        and local_size is None  # nor of a sliding window
    )
    if not is_packed or torch.device(device).type != "cpu" or torch.compiler.is_compiling():
        return sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            mask_function=mask_function,
            attention_mask=attention_mask,
            allow_is_causal_skip=allow_is_causal_skip,
            use_vmap=use_vmap,
            local_size=local_size,
            device=device,
            **kwargs,
        )
    rows, tokens = torch.arange(batch_size).unsqueeze(1), torch.arange(1, q_length)
    begins = F.pad(~mask_function(rows, 0, tokens, tokens - 1), (1, 0), value=True)  # (B, T): sees no token before it
    starts = begins.flatten().nonzero().squeeze(1)
    return torch.diff(starts, append=torch.tensor([batch_size * q_length]))


def attention_by_document(
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
    `causal_attention.attention_forward`, whose arguments and result these are, for masks of `document_lengths`.

    Args:
        query, key, value: `(B, n_head, T, head_dim)`.

    Returns:
        the attended values `(B, T, n_head, head_dim)`, and `None` for the attention weights.
    """
    if attention_mask is None or attention_mask.ndim != 1:
        return attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    # Documents of one length that lie side by side are attended to together: how many there are of each length
    runs = [(length, len(list(same))) for length, same in groupby(attention_mask.tolist())]
    sizes = [length * count for length, count in runs]
    # (B, n_head, T, head_dim) -> (B * T, n_head, head_dim) -> the runs' (count * length, n_head, head_dim)
    parts = zip(*(states.transpose(1, 2).flatten(0, 1).split(sizes) for states in (query, key, value)))
    attended = [_causal_attention(*states, count, dropout, scaling) for states, (_, count) in zip(parts, runs)]
    return torch.cat(attended).view(query.transpose(1, 2).shape), None


def _causal_attention(query, key, value, count, dropout, scaling):
    """Of `count` documents of the same length, all `(count * length, n_head, head_dim)`."""
    # -> (count, n_head, length, head_dim)
    query, key, value = (states.unflatten(0, (count, -1)).transpose(1, 2) for states in (query, key, value))
    attended = causal_attention(query, key, value, None, dropout, scaling)
    return attended.transpose(1, 2).flatten(0, 1)


ALL_ATTENTION_FUNCTIONS.register(NAME, attention_by_document)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, document_lengths)
