"""
A GPT from scratch. Read it from top to bottom; on the right stand the names of the parameters that each part holds.

    eager_attention_forward     attention itself, step by step
    GPTScratchAttention         its heads and projections          h.{i}.attn.{q,k,v,o}_proj
    GPTScratchMLP               the feed-forward layer             h.{i}.mlp.{fc_in,fc_out}
    GPTScratchBlock             both, each after a LayerNorm       h.{i}.ln_1, h.{i}.ln_2
    GPTScratchPreTrainedModel   what all models share
    GPTScratchModel             embeddings, blocks, last norm      wte, wpe, h, ln_f
    GPTScratchForCausalLM       the language model                 transformer (the model above), lm_head (tied to wte)
    GPTScratchFor{Sequence,Token}Classification: two classifiers   transformer, score
    ByteMaskDropout, then to the end: memory, packed documents, FSDP. Read these when a comment sends you there.

The architecture is GPT-2's (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"): learned
position embeddings, LayerNorm before each sub-layer, a tanh-approximated GELU. This file travels to the Hub with
every saved model, so it imports only torch, transformers, its configuration and the pipeline, to travel with it.

Shapes are written with B = batch size, T = tokens in the input, S = tokens attended to (past ones included),
C = n_embd, V = vocab_size.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_gpt_scratch import GPTScratchConfig
from .pipeline_gpt_scratch import GPTScratchTextClassificationPipeline  # so that saving a model copies its file too


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """
    Scaled dot-product attention (Vaswani et al. 2017), step by step. The other implementations (`sdpa`,
    `flex_attention`, `flash_attention_2`) compute the same without keeping the `(T, S)` weights.

    Args:
        query: `(B, n_head, T, head_dim)`.
        key, value: `(B, n_head, S, head_dim)`.
        attention_mask: `(B, 1, T, S)`, 0 where a token may look and a very negative number where it may not.

    Returns:
        the attended values `(B, T, n_head, head_dim)` and the attention weights `(B, n_head, T, S)`.
    """
    # (B, n_head, T, head_dim) @ (B, n_head, head_dim, S) -> (B, n_head, T, S)
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    # (B, n_head, T, S) @ (B, n_head, S, head_dim) -> (B, n_head, T, head_dim) -> (B, T, n_head, head_dim)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class GPTScratchAttention(nn.Module):
    """Masked multi-head self-attention: each token looks at itself and at the tokens before it."""

    def __init__(self, config: GPTScratchConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.n_embd // config.n_head
        self.scaling = self.head_dim**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scaling /= layer_idx + 1
        self.is_causal = True  # transformers' attention functions ask for it
        # For attention functions that make their own mask (flash attention); the others are given one
        self.sliding_window = config.sliding_window if _layer_type(config, layer_idx) == "sliding_attention" else None
        self.q_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.n_embd, config.n_embd)
        self.o_proj.adds_to_residual = True  # for _init_weights
        self.resid_dropout = ByteMaskDropout(config.resid_pdrop)  # nn.Dropout in less memory, see below

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`(B, T, C)` to `(B, T, C)`, and the attention weights where the implementation keeps them."""
        input_shape = hidden_states.shape[:-1]  # (B, T)
        head_shape = (*input_shape, -1, self.head_dim)  # (B, T, n_head, head_dim)
        # (B, T, C) -> (B, T, n_head, head_dim) -> (B, n_head, T, head_dim)
        query = self.q_proj(hidden_states).view(head_shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(head_shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(head_shape).transpose(1, 2)

        if past_key_values is not None:
            # (B, n_head, T, head_dim) -> (B, n_head, S, head_dim): the past tokens' keys and values come first
            key, value = past_key_values.update(key, value, self.layer_idx)

        attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        dropout = self.config.attn_pdrop if self.training else 0.0
        attn_output, attn_weights = attention_interface(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **kwargs,
        )
        # (B, T, n_head, head_dim) -> (B, T, C): the heads' results side by side
        attn_output = attn_output.reshape(*input_shape, -1).contiguous()
        return self.resid_dropout(self.o_proj(attn_output)), attn_weights


class GPTScratchMLP(nn.Module):
    """The feed-forward layer, applied to each token by itself: up to `n_inner` features, GELU, back to `n_embd`."""

    def __init__(self, config: GPTScratchConfig):
        super().__init__()
        n_inner = config.n_inner or 4 * config.n_embd
        self.fc_in = nn.Linear(config.n_embd, n_inner)
        self.fc_out = nn.Linear(n_inner, config.n_embd)
        self.fc_out.adds_to_residual = True
        # "gelu_new" is transformers' name for the tanh GELU spelled out in six operations, each of which keeps a
        # (B, T, n_inner) tensor for the backward pass; torch's own computes the same in one.
        is_tanh_gelu = config.activation_function in ("gelu_new", "gelu_pytorch_tanh")
        self.act = nn.GELU(approximate="tanh") if is_tanh_gelu else ACT2FN[config.activation_function]
        self.dropout = ByteMaskDropout(config.resid_pdrop)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, C) -> (B, T, n_inner) -> (B, T, C)`."""
        return self.dropout(self.fc_out(self.act(self.fc_in(hidden_states))))


class GPTScratchBlock(GradientCheckpointingLayer):
    """One transformer block: attention, then feed-forward, each added to its input (a residual connection)."""

    def __init__(self, config: GPTScratchConfig, layer_idx: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPTScratchAttention(config, layer_idx)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPTScratchMLP(config)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """`(B, T, C)` to `(B, T, C)`; the keyword arguments are the attention's."""
        attn_output, _ = self.attn(self.ln_1(hidden_states), **kwargs)
        hidden_states = hidden_states + attn_output
        return hidden_states + self.mlp(self.ln_2(hidden_states))


class GPTScratchPreTrainedModel(PreTrainedModel):
    """What every model below shares: how weights are made, saved, loaded and spread over devices."""

    config_class = GPTScratchConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _input_embed_layer = "wte"
    _no_split_modules = ["GPTScratchBlock"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": GPTScratchBlock, "attentions": GPTScratchAttention}
    # __init_subclass__ is added at the end of this file: only FSDP needs it.

    @torch.no_grad()
    def _init_weights(self, module):
        """Normal weights, zero biases; GPT-2 shrinks the two projections that each block adds to the residual."""
        super()._init_weights(module)
        if getattr(module, "adds_to_residual", False):
            init.normal_(module.weight, std=self.config.initializer_range / math.sqrt(2 * self.config.n_layer))


class GPTScratchModel(GPTScratchPreTrainedModel):
    """The GPT without a head: token ids in, one vector of size `n_embd` per token out."""

    def __init__(self, config: GPTScratchConfig):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = ByteMaskDropout(config.embd_pdrop)
        self.h = nn.ModuleList([GPTScratchBlock(config, layer_idx) for layer_idx in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """
        Args:
            input_ids: `(B, T)` token ids; or `inputs_embeds`, `(B, T, C)`, in their place.
            attention_mask: `(B, S)`, 1 for real tokens and 0 for padding on either side, past tokens included; or a
                ready `(B, 1, T, S)` mask, or one by the type of block. Without one, every token is real.
            position_ids: `(B, T)`, counted over the real tokens when not given. Where they start again from 0 within a
                row, a new document begins; packed documents do not see each other (see `_packed_documents`).
            past_key_values: keys and values of past tokens; filled and returned when `use_cache`.

        Raises:
            ValueError: for both or neither of `input_ids` and `inputs_embeds`; for a text longer than `n_positions`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
            inputs_embeds = self.wte(input_ids)  # (B, T) -> (B, T, C)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        position_ids, masks = self._positions_and_masks(inputs_embeds, attention_mask, position_ids, past_key_values)

        hidden_states = inputs_embeds + self.wpe(position_ids)  # (B, T, C)
        hidden_states = self.drop(hidden_states)
        for i, block in enumerate(self.h):
            hidden_states = block(
                hidden_states,
                attention_mask=masks[_layer_type(self.config, i)],
                past_key_values=past_key_values,
                position_ids=position_ids,
                use_cache=use_cache,
                **kwargs,
            )
        hidden_states = self.ln_f(hidden_states)
        return BaseModelOutputWithPast(hidden_states, past_key_values if use_cache else None)

    def _positions_and_masks(self, inputs_embeds, attention_mask, position_ids, past_key_values):
        """
        Each token's place in its text, `(B, T)` or `(1, T)`, and by the type of block the mask of the tokens that it
        may look at, in the form that the attention implementation wants, such as `(B, 1, T, S)`.
        """
        length = inputs_embeds.shape[1]
        past_length = past_key_values.get_seq_length() if past_key_values is not None else 0
        documents = None
        if position_ids is not None:
            # With neither cache nor mask, create_causal_mask finds packed documents by itself.
            if past_key_values is not None or attention_mask is not None:
                documents = _packed_documents(position_ids, attention_mask, past_length)
        elif isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
            # Only real tokens count, so that left padding changes nothing: (B, S) -> (B, T)
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        else:
            position_ids = torch.arange(length, device=inputs_embeds.device).unsqueeze(0) + past_length  # (1, T)

        if not torch.compiler.is_compiling() and past_length + length > self.config.n_positions:
            longest = position_ids.max().item() + 1  # padded or packed rows may be longer than any text in them
            if longest > self.config.n_positions:
                raise ValueError(
                    f"The sequence has {longest} tokens, but the model reads at most n_positions ="
                    f" {self.config.n_positions}; truncate it."
                )
        if isinstance(attention_mask, dict):  # ready, by `generate` for a cache of fixed size
            return position_ids, attention_mask
        makers = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
        masks = {
            layer_type: makers[layer_type](
                config=self.config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
                and_mask_function=documents,
            )
            for layer_type in {_layer_type(self.config, i) for i in range(len(self.h))}
        }
        return position_ids, masks


class GPTScratchForCausalLM(GPTScratchPreTrainedModel, GenerationMixin):
    """The language model: a score for every token of the vocabulary to come next, at every position."""

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: GPTScratchConfig):
        super().__init__(config)
        self.transformer = GPTScratchModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """
        Args:
            labels: `(B, T)`, the input ids themselves: the loss compares the scores at each position with the next
                token. Positions labelled -100 do not count.
            logits_to_keep: compute scores for the last so many positions only, 0 for all; or the positions' indices.

        Returns:
            `logits` of shape `(B, T, V)`, and with `labels` the mean cross-entropy `loss`. While training with
            `labels`, `logits` is `None` unless `config.loss_chunk_size` is 0.
        """
        outputs = self.transformer(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        hidden_states = outputs.last_hidden_state[:, kept]  # (B, T, C); -0 keeps every position
        logits = loss = None
        if labels is not None and _can_chunk_loss(self):
            loss = _chunked_loss(self, hidden_states, labels, **kwargs)  # the same in less memory, see below
        else:
            logits = self.lm_head(hidden_states)  # (B, T, C) -> (B, T, V)
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss, logits, outputs.past_key_values, outputs.hidden_states, outputs.attentions)


@dataclass
class GPTScratchSequenceClassifierOutput(SequenceClassifierOutputWithPast):
    """A sequence classifier's output, with `token_logits` `(B, T, num_labels)`, the scores after each token."""

    token_logits: torch.FloatTensor | None = None


class GPTScratchForSequenceClassification(GPTScratchPreTrainedModel):
    """
    The text classifier. Attention only looks back, so the scores at a position judge the text up to there; the scores
    at the last real token judge the whole text.
    """

    # Trainer then averages the loss over accumulated batches itself, which is exact for a mean over messages.
    accepts_loss_kwargs = False
    _fsdp_plan = {"score": "keep_full_weight"}

    def __init__(self, config: GPTScratchConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.transformer = GPTScratchModel(config)
        self.score = nn.Linear(config.n_embd, config.num_labels, bias=config.classifier_bias)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool = False,
        output_token_logits: bool = False,
        **kwargs,
    ) -> GPTScratchSequenceClassifierOutput:
        """
        Args:
            attention_mask: `(B, T)`. Without one, tokens equal to `pad_token_id` are padding, unless that is also the
                EOS token, which a message may really hold.
            labels: `(B,)` class indices, or `(B, num_labels)` for `problem_type="multi_label_classification"` and
                "regression".
            output_token_logits: also return the scores after every token.

        Returns:
            `logits` of shape `(B, num_labels)`; on request `token_logits` of shape `(B, T, num_labels)`; with
            `labels` the `loss`, shared between whole messages and all their prefixes by `config.prefix_loss_weight`.
        """
        pad, eos = self.config.pad_token_id, self.config.eos_token_id
        eos_tokens = eos if isinstance(eos, list) else [eos]
        if attention_mask is None and input_ids is not None and pad is not None and pad not in eos_tokens:
            attention_mask = (input_ids != pad).long()
        outputs = self.transformer(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        token_logits = self.score(outputs.last_hidden_state)  # (B, T, C) -> (B, T, num_labels)
        batch_size, length = token_logits.shape[:2]
        if attention_mask is None:
            is_real = torch.ones(batch_size, length, dtype=torch.long, device=token_logits.device)
        else:
            is_real = attention_mask[:, -length:].to(token_logits.device).long()  # (B, T)
        last_real = (torch.arange(length, device=is_real.device) * is_real).argmax(-1)  # (B,)
        logits = token_logits[torch.arange(batch_size, device=is_real.device), last_real]  # (B, num_labels)

        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
            if self.training:
                loss = self._training_loss(loss, logits, token_logits, labels, is_real)
        token_logits = token_logits if output_token_logits else None
        return GPTScratchSequenceClassifierOutput(
            loss, logits, outputs.past_key_values, outputs.hidden_states, outputs.attentions, token_logits
        )

    def _training_loss(self, loss, logits, token_logits, labels, is_real):
        """The loss with `config.class_weights`, and shared with the prefixes by `config.prefix_loss_weight`."""
        if self.config.problem_type == "single_label_classification":
            labels = labels.view(-1)
        if self.config.class_weights:
            loss = self._losses(logits, labels).mean()
        if self.config.prefix_loss_weight > 0:
            # (B,) -> (B, T), or (B, num_labels) -> (B, T, num_labels): every prefix has its text's label
            every_label = labels.unsqueeze(1).expand(*is_real.shape, *labels.shape[1:])
            # Averaged within each text, then over the texts
            losses = self._losses(token_logits, every_label) * is_real  # (B, T)
            prefix_loss = (losses.sum(-1) / is_real.sum(-1).clamp(min=1)).mean()
            loss = torch.lerp(loss, prefix_loss, self.config.prefix_loss_weight)
        return loss

    def _losses(self, logits, labels):
        """The loss `(...)` of each of the logits `(..., num_labels)`, by `config.problem_type`."""
        if self.config.problem_type == "single_label_classification":
            # cross_entropy wants the classes second: (B, T, num_labels) -> (B, num_labels, T)
            losses = F.cross_entropy(logits.movedim(-1, 1).float(), labels, reduction="none")
            weights = self.config.class_weights
            return losses * losses.new_tensor(weights)[labels] if weights else losses
        is_regression = self.config.problem_type == "regression"
        distance = F.mse_loss if is_regression else F.binary_cross_entropy_with_logits
        return distance(logits.float(), labels.float().reshape(logits.shape), reduction="none").mean(-1)


class GPTScratchForTokenClassification(GPTScratchPreTrainedModel):
    """The token tagger: a class for every token, from the token and those before it."""

    _fsdp_plan = {"score": "keep_full_weight"}

    def __init__(self, config: GPTScratchConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.transformer = GPTScratchModel(config)
        self.dropout = ByteMaskDropout(config.classifier_dropout)
        self.score = nn.Linear(config.n_embd, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool = False,
        **kwargs,
    ) -> TokenClassifierOutput:
        """`labels` are `(B, T)` class indices, -100 where a token does not count; `logits` `(B, T, num_labels)`."""
        outputs = self.transformer(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.score(self.dropout(outputs.last_hidden_state))  # (B, T, C) -> (B, T, num_labels)
        loss = None
        if labels is not None:
            # `kwargs` carries Trainer's num_items_in_batch, which keeps gradient accumulation exact.
            loss = self.loss_function(logits, labels, self.config, **kwargs)
        return TokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


# From here on: what the models above use, and a first reading can skip.


class ByteMaskDropout(nn.Dropout):
    """Dropout that is faster than nn.Dropout on a CPU, and whose mask waits for the backward pass as bytes."""

    def forward(self, hidden_states):
        if not self.training or self.p == 0:
            return hidden_states
        if hidden_states.device.type != "cpu" or self.p == 1 or torch.compiler.is_compiling():
            return torch.native_dropout(hidden_states, self.p, train=True)[0]
        keep, scale = random_keep_mask(hidden_states.shape, self.p)
        return torch.where(keep, hidden_states * scale, 0)


def random_keep_mask(shape, dropout):
    """
    Which numbers dropout keeps on a CPU, `shape` of booleans, and what to multiply those by.

    16 random bits decide on each number, which cost an eighth of a random float. So the probability is a multiple of
    1/65536; the scale is that of the probability as it is, which leaves the expected value exact.
    """
    count, dropped = math.prod(shape), round(dropout * 65536)
    bits = torch.empty(math.ceil(count / 4), dtype=torch.int64, device="cpu")  # 64 bits: four numbers' worth
    bits.random_(-(2**63), None)
    keep = bits.view(torch.int16)[:count] >= dropped - 32768
    return keep.view(shape), 65536 / (65536 - dropped)


def _layer_type(config, layer_idx):
    """Whether a block has "full_attention", as in GPT-2, or "sliding_attention", which looks only so far back."""
    layer_types = getattr(config, "layer_types", None)
    return layer_types[layer_idx] if layer_types else "full_attention"


def _packed_documents(position_ids, attention_mask, past_length):
    """
    A mask function that hides the other documents of a packed row, or `None` where no row is packed.

    transformers finds packed documents by itself, but only where there is neither a cache nor a mask; with one of
    them, tokens would silently attend across documents. The position of a token tells how far back its document
    began, whether that part is in this input `(B, T)` or already in the cache.

    With torch.compile, or flash attention on more than one row, only calls without cache and mask can be packed.
    """
    # A single token with a mask is `generate` at work, which never packs: this saves it a device synchronisation.
    if torch.compiler.is_compiling() or (attention_mask is not None and position_ids.shape[1] == 1):
        return None
    token_index = torch.arange(position_ids.shape[1], device=position_ids.device) + past_length
    first_of_document = token_index - position_ids  # (B, T)
    if not (first_of_document > 0).any():
        return None
    return lambda batch, head, query, key: key >= first_of_document[batch, query - past_length]


def _can_chunk_loss(model):
    """Whether the usual loss is to be trained on, of an output head that `ChunkedLoss` can take the weights of."""
    return (
        model.training
        and model.config.loss_chunk_size > 0
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and model.loss_function is ForCausalLMLoss
        # Not an adapter around it (PEFT), and not spread over devices (DTensor)
        and type(model.lm_head) is nn.Linear
        and type(model.lm_head.weight) is nn.Parameter
        and model.lm_head.bias is None
        and not model.lm_head._forward_hooks
    )


def _chunked_loss(
    model, hidden_states, labels, num_items_in_batch=None, ignore_index=-100, shift_labels=None, **kwargs
):
    """The same as `loss_function` on all the logits, which for GPT-2's vocabulary outweigh everything else."""
    if shift_labels is None:
        shift_labels = F.pad(labels[:, 1:], (0, 1), value=ignore_index)  # (B, T): the last position predicts nothing
    shift_labels = shift_labels.flatten().to(hidden_states.device)  # (B, T) -> (B * T,)
    learned = (shift_labels != ignore_index).nonzero().squeeze(-1)  # (N,): nothing is learned from padding and prompts
    count = len(learned) if num_items_in_batch is None else float(num_items_in_batch)
    loss = ChunkedLoss.apply(
        hidden_states.flatten(0, 1)[learned],  # (B, T, C) -> (N, C)
        model.lm_head.weight,
        shift_labels[learned],
        model.config.loss_chunk_size,
        count or 1,
    )
    return loss if count else loss + torch.nan  # without labels NaN, but no gradient of NaN


class ChunkedLoss(torch.autograd.Function):
    """
    The cross-entropy of the output head's logits, a chunk of tokens at a time, so that all logits never exist at once.

    The gradient on a token's logits is softmax(logits) - onehot(label). It is made as soon as the chunk's loss is, so
    that no logits need be kept for the backward pass, or made again in it.
    """

    @staticmethod
    def forward(ctx, hidden_states, weight, labels, chunk_size, count):
        """`hidden_states` is `(N, C)`, `weight` `(V, C)`, `labels` `(N,)`; the sum of the losses is over `count`."""
        device, (vocab_size, _) = hidden_states.device, weight.shape
        is_mixed = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if is_mixed else hidden_states.dtype
        states, head = hidden_states.to(dtype), weight.to(dtype)
        # The sum over the chunks is kept in fp32: in fp16 and bf16 each addition would round it.
        sum_dtype = torch.promote_types(dtype, torch.float32)
        # Rows of a multiple of 16 numbers, on which products are faster; the ones too many have a probability of 0.
        width = math.ceil(vocab_size / 16) * 16
        if device.type != "cpu":  # a GPU multiplies odd matrices at half the speed, and small ones leave it idle
            head, chunk_size = F.pad(head, (0, 0, 0, width - vocab_size)), 4 * chunk_size
        columns = len(head)  # V, or on a GPU the width
        weight_grad = torch.zeros_like(head, dtype=sum_dtype) if ctx.needs_input_grad[1] else None
        shape = (min(chunk_size, len(labels)), width)
        all_logits = torch.full(shape, -torch.inf, dtype=dtype, device=device)
        all_scores = torch.empty(shape, dtype=torch.float32, device=device)
        total, hidden_grad = 0.0, torch.empty_like(states)
        for begin in range(0, len(labels), chunk_size):
            chunk = slice(begin, begin + chunk_size)
            label = labels[chunk].unsqueeze(1)  # (chunk_size, 1)
            logits, scores = all_logits[: len(label)], all_scores[: len(label)]
            torch.mm(states[chunk], head.t(), out=logits[:, :columns])  # (chunk_size, C) -> (chunk_size, columns)
            if columns > vocab_size:
                logits[:, vocab_size:] = -torch.inf
            torch.log_softmax(logits, -1, dtype=torch.float32, out=scores)
            total = total - scores[:, :vocab_size].gather(1, label).sum()
            scores.exp_().scatter_add_(1, label, torch.full_like(label, -1, dtype=torch.float32))
            logits_grad = scores.to(dtype)[:, :columns]
            torch.mm(logits_grad, head, out=hidden_grad[chunk])  # (chunk_size, columns) @ (columns, C)
            if weight_grad is None:
                continue
            # (columns, chunk_size) @ (chunk_size, C) -> (columns, C), added in place: as large as the vocabulary
            if dtype == sum_dtype:
                weight_grad.addmm_(logits_grad.t(), states[chunk], alpha=1 / count)
            else:  # on a CPU a few rows at a time, so that the product is still at hand when it is added
                size = 4096 if device.type == "cpu" else columns
                for rows, some in zip(weight_grad.split(size), logits_grad.split(size, dim=1)):
                    rows.add_(some.t() @ states[chunk], alpha=1 / count)
        weight_grad = None if weight_grad is None else weight_grad[:vocab_size]
        ctx.count = count
        ctx.save_for_backward(hidden_grad, weight_grad)
        return hidden_states.new_zeros((), dtype=torch.float32) + total / count

    @staticmethod
    def backward(ctx, grad_output):
        if torch.is_grad_enabled():  # by create_graph=True; the gradients below would count as constants, silently
            raise RuntimeError("The chunked loss has no second derivatives: set config.loss_chunk_size to 0 for them.")
        hidden_grad, weight_grad = ctx.saved_tensors  # not changed in place: a graph that is retained comes here again
        # Divided only now: in fp16, gradients divided by the number of tokens would vanish, but for a loss scaled up.
        hidden_grad = hidden_grad * (grad_output / ctx.count)
        if weight_grad is not None and (grad_output.device.type != "cpu" or grad_output != 1):
            weight_grad = weight_grad * grad_output
        return hidden_grad, weight_grad, None, None, None


def _keep_file_under_fsdp(cls, **kwargs):
    """FSDP gives a sharded model a class of torch's making; saved beside it must be this file, not torch's."""
    PreTrainedModel.__init_subclass__.__func__(cls, **kwargs)  # what super() is inside the class
    if cls.__module__.split(".")[0] == "torch":
        cls.__module__ = cls.__bases__[-1].__module__


GPTScratchPreTrainedModel.__init_subclass__ = classmethod(_keep_file_under_fsdp)

# Saving a model then copies this file and those it imports beside the weights.
GPTScratchModel.register_for_auto_class("AutoModel")
GPTScratchForCausalLM.register_for_auto_class("AutoModelForCausalLM")
GPTScratchForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
GPTScratchForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")
# Trainer's label smoothing and the text-generation pipeline know a causal language model by its being listed here.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.setdefault(GPTScratchConfig.model_type, GPTScratchForCausalLM.__name__)

__all__ = [
    "GPTScratchForCausalLM",
    "GPTScratchForSequenceClassification",
    "GPTScratchForTokenClassification",
    "GPTScratchModel",
    "GPTScratchPreTrainedModel",
    "GPTScratchTextClassificationPipeline",
]
