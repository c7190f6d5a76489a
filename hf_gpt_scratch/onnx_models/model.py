"""
A model whose weights are in an ONNX file. It stands where this package's own model stands: it takes and returns the
same tensors, and fills the same caches, so that sessions, sampling, batches and `generate` work with it.

Shapes are written with B = batch size, T = tokens in the input, S = tokens attended to (past ones included).
"""

import os

import torch
from transformers import GenerationConfig, GenerationMixin
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from .. import modeling_gpt_scratch
from ..model_folder.code import require_no_code_of_the_hub
from ..model_folder.contents import ModelFolder
from ..model_folder.onnx_files import FILES, original_config
from ..modeling_gpt_scratch import GPTScratchPreTrainedModel, GPTScratchSequenceClassifierOutput
from ..utils.constants import PRECISIONS
from ..utils.errors import InputError
from .graph import KINDS, PAST, PRESENT, Graph

PROMPT = 16  # tokens; of longer prompts all but the last are read without the output head: see `OnnxForCausalLM`


class OnnxModel(GPTScratchPreTrainedModel):
    """
    What both models below share. It has no parameters, and is neither trained nor saved.

    Args:
        config: of the model that was exported.
        graph: its ONNX file.
        precision: "float32" or "int8", what the file's weights are.
    """

    def __init__(self, config, graph: Graph, precision: str):
        super().__init__(config)
        self.graph, self.precision = graph, precision
        self.num_labels = config.num_labels
        self.post_init()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.precision)

    def num_parameters(self, *args, **kwargs) -> int:
        """Those of the model that was exported."""
        with torch.device("meta"):
            return getattr(modeling_gpt_scratch, self.config.architectures[0])(self.config).num_parameters()

    def save_pretrained(self, *args, **kwargs):
        raise InputError("An ONNX model is for use only and cannot be saved; copy its folder.")

    push_to_hub = save_pretrained

    @torch.no_grad()
    def _run(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        cache: Cache | None,
        keep: bool,
        scores: dict[str, tuple[int, ...]],
    ) -> dict[str, torch.Tensor]:
        """
        The scores whose names and shapes are given, after tokens `(B, T)`; `keep` writes their keys and values into
        the cache, behind those that it holds.

        Raises:
            ValueError: for a text longer than `n_positions`; for packed documents, and for caches that do not hold
                all tokens, which the file cannot have.
        """
        rows, length = input_ids.shape
        layers = cache.layers if cache is not None else []
        past = cache.get_seq_length() if layers else 0
        mask = torch.ones(rows, past + length, dtype=torch.long) if mask is None else mask.long()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -length:]  # (B, T), as the model itself counts
        _check(positions, position_ids, mask[:, -length:], self.config.n_positions)
        if any(not isinstance(layer, DynamicLayer) or layer.is_sliding for layer in layers):
            raise ValueError("An ONNX model needs a cache that grows and keeps all tokens, such as DynamicCache().")
        inputs = {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions}
        heads, size = self.config.n_head, self.config.n_embd // self.config.n_head
        nothing = torch.empty(rows, heads, 0, size)
        for i in range(self.graph.n_layer):
            held = (layers[i].keys, layers[i].values) if past else (nothing, nothing)
            inputs |= {PAST.format(i, kind): states for kind, states in zip(KINDS, held)}
        shape = (rows, heads, past + length, size)
        names = [PRESENT.format(i, kind) for i in range(self.graph.n_layer) for kind in KINDS] if keep else []
        found = self.graph.run(inputs, {**scores, **dict.fromkeys(names, shape)})
        if keep:
            _fill(cache, [found.pop(name) for name in names])
        return found


def _check(positions: torch.Tensor, given: torch.Tensor | None, is_real: torch.Tensor, n_positions: int) -> None:
    """Raises `ValueError` for a text that is too long, and for positions that are not those of its real tokens."""
    if (longest := positions.max().item() + 1) > n_positions:
        raise ValueError(
            f"The sequence has {longest} tokens, but the model reads at most n_positions = {n_positions}; truncate it."
        )
    if given is not None and ((given != positions) & is_real.bool()).any():
        raise ValueError("An ONNX model counts the positions of the tokens itself; packed documents need torch.")


def _fill(cache: Cache, states: list[torch.Tensor]) -> None:
    """Puts the keys and values of all tokens, `(B, n_head, S, head_dim)`, in place of those that the cache holds."""
    for i, (keys, values) in enumerate(zip(states[::2], states[1::2])):
        if i == len(cache.layers):
            cache.layers.append(cache.layer_class_to_replicate())
        if not cache.layers[i].is_initialized:
            cache.layers[i].lazy_initialization(keys, values)
        cache.layers[i].keys, cache.layers[i].values = keys, values


class OnnxForCausalLM(OnnxModel, GenerationMixin):
    """
    The language model. Where only the last token's scores are asked for, a long prompt is read in two passes, the
    first without the output head, which is as large as many blocks and would write `(B, T, V)` numbers.
    """

    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        return_dict: bool = True,
    ) -> CausalLMOutputWithPast:
        """The arguments and the output of `GPTScratchForCausalLM`, but for what only training needs."""
        use_cache = self.config.use_cache if use_cache is None else use_cache
        cache = DynamicCache() if past_key_values is None else past_key_values
        rows, length = input_ids.shape
        scores = {"logits": (rows, length, self.config.vocab_size)}
        if use_cache and isinstance(logits_to_keep, int) and logits_to_keep == 1 and length > PROMPT:
            before = None if attention_mask is None else attention_mask[:, :-1]
            places = (None, None) if position_ids is None else (position_ids[:, :-1], position_ids[:, -1:])
            self._run(input_ids[:, :-1], before, places[0], cache, True, {})
            input_ids, position_ids, scores = input_ids[:, -1:], places[1], {"logits": (rows, 1, scores["logits"][2])}
        logits = self._run(input_ids, attention_mask, position_ids, cache, use_cache, scores)["logits"]
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(logits=logits[:, kept], past_key_values=cache if use_cache else None)


class OnnxForSequenceClassification(OnnxModel):
    """The text classifier."""

    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = False,
        output_token_logits: bool = False,
        return_dict: bool = True,
    ) -> GPTScratchSequenceClassifierOutput:
        """The arguments and the output of `GPTScratchForSequenceClassification`, but for what only training needs."""
        pad, eos = self.config.pad_token_id, self.config.eos_token_id
        if attention_mask is None and pad is not None and pad not in (eos if isinstance(eos, list) else [eos]):
            attention_mask = (input_ids != pad).long()
        cache = DynamicCache() if use_cache and past_key_values is None else past_key_values
        rows, labels = len(input_ids), self.config.num_labels
        scores = {"logits": (rows, labels)}
        if output_token_logits:
            scores["token_logits"] = (*input_ids.shape, labels)
        found = self._run(input_ids, attention_mask, position_ids, cache, use_cache, scores)
        return GPTScratchSequenceClassifierOutput(
            logits=found["logits"],
            token_logits=found.get("token_logits"),
            past_key_values=cache if use_cache else None,
        )


CLASSES = {
    "GPTScratchForCausalLM": OnnxForCausalLM,
    "GPTScratchForSequenceClassification": OnnxForSequenceClassification,
}


def load_onnx(folder: str | os.PathLike, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"):
    """
    The model of an ONNX folder, an `OnnxForCausalLM` or `OnnxForSequenceClassification`, ready for use.

    Args:
        device: "cpu" or "auto".
        dtype: "fp32" or "int8", which file is to be run; "auto" is the one that is there, fp32 where both are.

    Raises:
        InputError: when it is none, onnxruntime is not installed, or another device or precision is asked for.
    """
    folder = ModelFolder.read(folder)
    require_no_code_of_the_hub(folder.path, folder.settings)
    config = original_config(folder)
    if (model_class := CLASSES.get(config.architectures[0])) is None:
        raise InputError(f"{folder} holds a {config.architectures[0]}; expected one of {', '.join(CLASSES)}.")
    if torch.device("cpu" if device == "auto" else device).type != "cpu":
        raise InputError(f"An ONNX model runs on the CPU here, not on {device}; use --device cpu.")
    held = [name for name, file in FILES.items() if (folder.path / file).is_file()]
    if not held:
        raise InputError(f"{folder} holds none of {', '.join(FILES.values())}; export the model again.")
    precision = held[0] if dtype == "auto" else _short(dtype)
    if precision not in held:
        raise InputError(f"{folder} holds an ONNX model in {' and '.join(held)}, not in {precision}; omit --dtype.")
    model = model_class(config, Graph(folder.path / FILES[precision]), PRECISIONS[precision])
    if model.can_generate() and (folder.path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder.path, local_files_only=True)
    model.name_or_path = str(folder)
    return model.eval()


def _short(dtype: str | torch.dtype) -> str:
    """The short name of a data type, such as "fp32", where it has one."""
    name = str(dtype).removeprefix("torch.")
    return {long: short for short, long in PRECISIONS.items()}.get(name, name)
