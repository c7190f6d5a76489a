"""Whether an ONNX graph gives the answers of the model that it was made from."""

import torch
from transformers import PreTrainedModel

from ..configuration_gpt_scratch import GPTScratchConfig
from ..onnx_models.graph import Graph
from .onnx_graph import cache_names

TOKENS = 32


def batches(config: GPTScratchConfig) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Fixed rows of token ids `(B, T)`, longer than a sliding window, and their masks: padded right, and left."""
    length = TOKENS + (config.sliding_window or 0 if "sliding_attention" in getattr(config, "layer_types", ()) else 0)
    length = min(length, config.n_positions)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (3, length), generator=generator)
    lengths = torch.tensor([length, max(1, length - 3), max(1, length // 2)])[:, None]
    right = (torch.arange(length) < lengths).long()
    return [(ids, right), (ids, right.flip(1))]


@torch.no_grad()
def answers(model: PreTrainedModel, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """The scores that the model itself gives for such batches, by their names in the graph."""
    found, has_token_logits = [], type(model).__name__ == "GPTScratchForSequenceClassification"
    for ids, mask in rows:
        if has_token_logits:
            output = model.eval()(ids, attention_mask=mask, output_token_logits=True)
            found.append({"logits": output.logits, "token_logits": output.token_logits})
        else:
            cached = {"use_cache": False} if model.can_generate() else {}
            found.append({"logits": model.eval()(ids, attention_mask=mask, **cached).logits})
    return found


def difference(
    graph: Graph,
    config: GPTScratchConfig,
    rows: list[tuple[torch.Tensor, torch.Tensor]],
    expected: list[dict[str, torch.Tensor]],
) -> float:
    """
    The largest one between the graph's scores and those expected at real tokens: each batch read whole, and in three
    pieces with the keys and values so far. NaN where the graph gives one.
    """
    found = []
    for (ids, mask), wanted in zip(rows, expected):
        length = ids.shape[1]
        for places in ([0, length], sorted({0, length // 2, min(length // 2 + 1, length), length})):
            pieces = _read(graph, config, ids, mask, places, wanted)
            found += [_compared(pieces, name, values, mask) for name, values in wanted.items()]
    return torch.stack(found).max().item()


def _read(graph, config, ids, mask, places: list[int], wanted) -> list[dict[str, torch.Tensor]]:
    """The scores of each piece of a batch `(B, T)` that is cut at those places."""
    size = config.n_embd // config.n_head
    past = [torch.empty(len(ids), config.n_head, 0, size)] * (2 * config.n_layer)
    positions, pieces = (mask.cumsum(-1) - 1).clamp(min=0), []
    for start, stop in zip(places, places[1:]):
        inputs = {"input_ids": ids[:, start:stop], "attention_mask": mask[:, :stop]}
        inputs |= {"position_ids": positions[:, start:stop], **dict(zip(cache_names(config, "past_key_values"), past))}
        shapes = {
            name: (len(ids), stop - start, values.shape[2]) if values.ndim == 3 else tuple(values.shape)
            for name, values in wanted.items()
        }
        present = dict.fromkeys(cache_names(config, "present"), (len(ids), config.n_head, stop, size))
        pieces.append(graph.run(inputs, {**shapes, **present}))
        past = [pieces[-1].pop(name) for name in present]
    return pieces


def _compared(pieces: list[dict[str, torch.Tensor]], name: str, wanted: torch.Tensor, mask: torch.Tensor):
    """The largest difference of one kind of scores: of those after tokens, of the real ones; of those of a whole row,
    of the rows whose last real token is in the last piece."""
    if wanted.ndim == 3:
        return (torch.cat([piece[name] for piece in pieces], 1) - wanted)[mask.bool()].abs().max()
    is_known = mask[:, -1].bool() | (len(pieces) == 1)
    return (pieces[-1][name] - wanted)[is_known].abs().max()
