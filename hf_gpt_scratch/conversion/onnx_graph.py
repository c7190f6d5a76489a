"""
A model as one ONNX graph, by torch's own exporter (`torch.onnx.export(dynamo=True)`).

    input_ids (B, T), attention_mask (B, S), position_ids (B, T)    int64, S = past + T
    past_key_values.{i}.key, .value   (B, n_head, past, head_dim)   float32; past may be 0
    logits                            (B, T, V) of a language model, (B, T, K) of a token classifier, (B, K) of a
                                      sequence classifier: the scores at each row's last real token
    token_logits                      (B, T, K) of a sequence classifier: the scores after each token
    present.{i}.key, .value           (B, n_head, S, head_dim)

The names are optimum's, which transformers.js and others look for. The mask is made in the graph from
`attention_mask`, a sliding window included; `position_ids` only say which position embeddings are added.

Why this exporter: optimum-onnx 0.1 needs a transformers below 4.58, and the stock twin has neither windows nor scores
after each token. transformers' own (`transformers.exporters`) calls this same function, with patches for models that
need them; this one needs none, and here the weights are first laid out as ONNX multiplies by them. torch's other
exporter, by TorchScript, gives the same numbers and is deprecated.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import DynamicCache

from ..configuration_gpt_scratch import GPTScratchConfig
from ..modeling_gpt_scratch import GPTScratchPreTrainedModel

OPSET = 20  # the first with Gelu as one operator; onnxruntime has it since 1.17
BATCH, TOKENS, PAST, TOTAL = "batch_size", "sequence_length", "past_sequence_length", "total_sequence_length"


def cache_names(config: GPTScratchConfig, prefix: str) -> list[str]:
    """The names of the keys and values, in the order of the graph; `prefix` is "past_key_values" or "present"."""
    return [f"{prefix}.{i}.{part}" for i in range(config.n_layer) for part in ("key", "value")]


def write_graph(model: GPTScratchPreTrainedModel, path: Path) -> str:
    """
    Writes the graph of a float32 model with a head; the model itself is of no use afterwards. Returns the name of the
    matrix of token embeddings in it.
    """
    config, graph = model.config, _Graph(model).eval()
    batch, tokens, past, head_dim = 2, 3, 4, config.n_embd // config.n_head  # any sizes above 1 that differ
    ids, positions = (torch.zeros(batch, tokens, dtype=torch.long) for _ in range(2))  # one tensor would be one input
    mask = torch.ones(batch, past + tokens, dtype=torch.long)
    cache = [torch.zeros(batch, config.n_head, past, head_dim) for _ in range(2 * config.n_layer)]
    outputs = ["logits", "token_logits"] if graph.has_token_logits else ["logits"]
    names = ["input_ids", "attention_mask", "position_ids"]
    shapes = ({0: BATCH, 1: TOKENS}, {0: BATCH, 1: TOTAL}, {0: BATCH, 1: TOKENS}, [{0: BATCH, 2: PAST}] * len(cache))
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (ids, mask, positions, cache),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[*names, *cache_names(config, "past_key_values")],
            output_names=[*outputs, *cache_names(config, "present")],
            opset_version=OPSET,
            verbose=False,
        )
    _strip(program.model)
    program.save(path)
    return "head.weight" if graph.embeddings is None else "embeddings.weight"


def _strip(model) -> None:
    """Removes what the exporter notes about each node: longer than a small model's weights, with paths of the code."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


class _Graph(nn.Module):
    """What the graph computes: a model with its mask made here, and its weights as ONNX multiplies by them."""

    def __init__(self, model: GPTScratchPreTrainedModel):
        super().__init__()
        model.set_attn_implementation("eager")
        self.config, self.base = model.config, model.transformer
        self.has_token_logits = type(model).__name__ == "GPTScratchForSequenceClassification"
        is_tied = model.can_generate() and self.config.tie_word_embeddings
        self.head = _InOut(model.lm_head if model.can_generate() else model.score)
        for block in self.base.h:
            for part in (block.attn, block.mlp):
                for name, linear in list(part.named_children()):
                    if isinstance(linear, nn.Linear):
                        setattr(part, name, _InOut(linear))
        self.embeddings = None if is_tied else self.base.wte
        self.base.wte = None

    def forward(self, input_ids, attention_mask, position_ids, past_key_values):
        cache = DynamicCache(list(zip(past_key_values[::2], past_key_values[1::2])))
        hidden_states = self.base(
            inputs_embeds=self._embed(input_ids),
            attention_mask=self._masks(input_ids.shape[1], past_key_values[0].shape[2], attention_mask),
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = self.head(hidden_states)
        present = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        if not self.has_token_logits:
            return logits, *present
        is_real = attention_mask[:, -input_ids.shape[1] :]  # (B, T)
        last_real = (torch.arange(input_ids.shape[1]) * is_real).argmax(-1)  # (B,)
        pooled = logits.gather(1, last_real[:, None, None].expand(-1, 1, logits.shape[-1])).squeeze(1)
        return pooled, logits, *present

    def _embed(self, input_ids):
        """`(B, T) -> (B, T, C)`; tied, they are columns of the head's matrix, so that the file holds it once."""
        if self.embeddings is not None:
            return self.embeddings(input_ids)
        columns = self.head.weight.index_select(1, input_ids.flatten())  # (C, B * T)
        return columns.t().reshape(*input_ids.shape, -1)

    def _masks(self, length, past, attention_mask):
        """By the type of block `(B, 1, T, S)`, what is added to the attention scores."""
        query = torch.arange(length)[:, None] + past  # (T, 1)
        key = torch.arange(length + past)[None]  # (1, S)
        is_real, masks = attention_mask[:, None, None, :] > 0, {}  # (B, 1, 1, S)
        for layer_type in set(getattr(self.config, "layer_types", None) or ["full_attention"]):
            is_seen = key <= query
            if layer_type == "sliding_attention":
                is_seen = is_seen & (key > query - self.config.sliding_window)
            masks[layer_type] = torch.where(is_seen & is_real, 0.0, torch.finfo(torch.float32).min)
        return masks


class _InOut(nn.Module):
    """A linear layer whose weight is `(in, out)`, as ONNX's MatMul takes it: the file needs no transposed copy."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().t().contiguous(), requires_grad=False)
        self.bias = linear.bias

    def forward(self, hidden_states):
        product = hidden_states @ self.weight
        return product if self.bias is None else product + self.bias


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's warnings about its own use of torch, and about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
