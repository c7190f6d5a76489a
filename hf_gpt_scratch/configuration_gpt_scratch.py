"""Configuration of the GPT in `modeling_gpt_scratch.py`. This file travels to the Hub with every saved model."""

from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

# Every saved folder names all the classes it can be loaded as, not only the one it was saved from; and them in its own
# files, so that re-saving a model of another repository does not point back to it.
AUTO_MAP = {
    "AutoConfig": "configuration_gpt_scratch.GPTScratchConfig",
    "AutoModel": "modeling_gpt_scratch.GPTScratchModel",
    "AutoModelForCausalLM": "modeling_gpt_scratch.GPTScratchForCausalLM",
    "AutoModelForSequenceClassification": "modeling_gpt_scratch.GPTScratchForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_gpt_scratch.GPTScratchForTokenClassification",
}
# What `pipeline` takes for a sequence classifier, where it may run the folder's code
CUSTOM_PIPELINES = {
    "text-classification": {
        "impl": "pipeline_gpt_scratch.GPTScratchTextClassificationPipeline",
        "pt": ["AutoModelForSequenceClassification"],
    }
}


class GPTScratchConfig(PreTrainedConfig):
    r"""
    The shape and the settings of a GPT, in GPT-2's own words. The defaults are those of GPT-2 124M.

    Args:
        vocab_size: number of tokens in the vocabulary.
        n_positions: the longest sequence the model can read, in tokens (it learns one position embedding for each).
        n_embd: width of the residual stream.
        n_layer: number of transformer blocks.
        n_head: attention heads per block; must divide `n_embd`.
        n_inner: width of the feed-forward layer, `4 * n_embd` when `None`.
        activation_function: activation of the feed-forward layer; "gelu_new" is GPT-2's tanh approximation of GELU.
        resid_pdrop, embd_pdrop, attn_pdrop: dropout probabilities after each sub-layer, after the embeddings and on
            the attention weights.
        classifier_dropout: dropout probability before the token-classification head.
        classifier_bias: whether the sequence-classification head has a bias (GPT-2's has none).
        layer_norm_epsilon: added to the variance inside LayerNorm.
        initializer_range: standard deviation of the random initial weights.
        qkv_bias: whether the query, key and value projections have a bias (GPT-2's do).
        scale_attn_weights: whether attention scores are divided by the square root of a head's width (GPT-2's are).
        scale_attn_by_inverse_layer_idx: whether those of the layer of index i are also divided by i + 1, as in the
            models of Mistral (stanford-crfm) and codeparrot.
        reorder_and_upcast_attn: how stock GPT-2 orders the same sum in half precision; it changes nothing here, and is
            kept for the way back.
        tie_word_embeddings: whether the output head shares its weights with the token embeddings.
        use_cache: whether the model keeps the keys and values of past tokens for generation.
        loss_chunk_size: while training with labels, the language-model head and its loss run over this many tokens at
            a time, on a GPU over four times as many, so that the `(B, T, vocab_size)` logits never exist at once; the
            output then has `logits=None`. 0 computes them whole and returns them.
        sliding_window: how many tokens back a token may look in the blocks with a window, itself included; `None` for
            all of them, as in GPT-2.
        layer_types: with a `sliding_window`, "sliding_attention" or "full_attention" for each block, under
            transformers' own name for it; all are the former when not given.
        prefix_loss_weight: in sequence classification, the share (0 to 1) of the loss that is taken over every prefix
            of a text instead of over the whole text, so that the scores after each word mean something.
        class_weights: in sequence classification with one label a text, what each label's texts' loss in training is
            multiplied by, in the order of the labels; `None` for 1 each.
        long_texts: what a sequence classifier's users do with a text of more than `n_positions` tokens: read its
            "first" or its "last" ones, or all of it in "windows" of that size, whose logits are averaged. The model
            itself reads what it is given.

    Raises:
        ValueError: when the settings cannot make a model, naming the setting and the reason.
    """

    model_type = "gpt_scratch"
    keys_to_ignore_at_inference = ["past_key_values", "token_logits"]
    attribute_map = {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    }

    # How tensor, pipeline and FSDP parallelism cut the base model; see transformers' distributed documentation.
    base_model_tp_plan = {
        "wte": "embedding_rowwise",
        "h.*.attn.q_proj": "colwise",
        "h.*.attn.k_proj": "colwise",
        "h.*.attn.v_proj": "colwise",
        "h.*.attn.o_proj": "rowwise",
        "h.*.mlp.fc_in": "colwise",
        "h.*.mlp.fc_out": "rowwise",
    }
    base_model_pp_plan = {
        "wte": (["input_ids"], ["inputs_embeds"]),
        "wpe": (["position_ids"], ["position_embeds"]),
        "h": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "ln_f": (["hidden_states"], ["hidden_states"]),
    }
    base_model_fsdp_plan = {
        "wte": "free_full_weight",
        "wpe": "free_full_weight",
        "h.*": "free_full_weight",
        "ln_f": "keep_full_weight",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    classifier_dropout: float = 0.1
    classifier_bias: bool = False
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    qkv_bias: bool = True
    sliding_window: int | None = None
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True
    use_cache: bool = True
    loss_chunk_size: int = 256
    prefix_loss_weight: float = 0.0
    class_weights: list[float] | None = None
    long_texts: str = "first"
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None

    def __post_init__(self, layer_types=None, **kwargs):
        super().__post_init__(**kwargs)
        self.auto_map = dict(AUTO_MAP)
        if self.sliding_window is not None or layer_types is not None:
            # Not a field: where it exists, serving engines expect a list
            self.layer_types = ["sliding_attention"] * self.n_layer if layer_types is None else layer_types
        self.validate_architecture()

    def to_dict(self):
        """What is saved: always with the whole `AUTO_MAP`, also for a model whose class FSDP renamed."""
        saved = {**super().to_dict(), "auto_map": dict(AUTO_MAP)}
        saved.pop("custom_pipelines", None)  # where `pipeline` may have put classes
        if any("SequenceClassification" in name for name in self.architectures or ()):
            saved["custom_pipelines"] = CUSTOM_PIPELINES
        return saved

    def validate_architecture(self):
        """Raises `ValueError` for settings no model can be built from."""
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "sliding_window"):
            value = getattr(self, name)
            if name in ("n_inner", "sliding_window") and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
        if self.n_embd % self.n_head != 0:
            raise ValueError(
                f"n_embd ({self.n_embd}) must be divisible by n_head ({self.n_head}): the heads share it evenly."
            )
        self._validate_layer_types()
        self._validate_classifier()
        for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout", "prefix_loss_weight"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {value!r}.")
        for name in ("layer_norm_epsilon", "initializer_range"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ValueError(f"{name} must be greater than 0 and at most 1, not {value!r}.")
        if self.activation_function not in ACT2FN:
            raise ValueError(
                f"activation_function {self.activation_function!r} is not in transformers' ACT2FN; try 'gelu_new'."
            )
        if not isinstance(self.loss_chunk_size, int) or self.loss_chunk_size < 0:
            raise ValueError(
                f"loss_chunk_size must be a number of tokens, or 0 for none, not {self.loss_chunk_size!r}."
            )

    def _validate_classifier(self):
        """Raises `ValueError` for settings that no sequence classifier can have."""
        weights = self.class_weights
        if weights is not None:
            if self.problem_type in ("multi_label_classification", "regression"):
                raise ValueError(f"class_weights are for one label a text, not for {self.problem_type}.")
            if len(weights) != self.num_labels or not all(weight > 0 for weight in weights):
                raise ValueError(
                    f"class_weights must be {self.num_labels} numbers above 0, one for each label, not {weights!r}."
                )
        if self.long_texts not in ("first", "last", "windows"):
            raise ValueError(f"long_texts must be 'first', 'last' or 'windows', not {self.long_texts!r}.")

    def _validate_layer_types(self):
        """Raises `ValueError` unless there is one of the two types for each block, and a window where one needs it."""
        types = getattr(self, "layer_types", None)
        if types is None:
            return
        if not isinstance(types, list) or not set(types) <= {"full_attention", "sliding_attention"}:
            raise ValueError(f"layer_types must be a list of 'full_attention' and 'sliding_attention', not {types!r}.")
        if len(types) != self.n_layer:
            raise ValueError(f"layer_types has {len(types)} entries, but there are {self.n_layer} blocks (n_layer).")
        if "sliding_attention" in types and self.sliding_window is None:
            raise ValueError("layer_types has 'sliding_attention', which needs a sliding_window.")


GPTScratchConfig.register_for_auto_class()

__all__ = ["GPTScratchConfig"]
