"""
Models that are not GPT-2 though they look like one, or hold more than one: what each is, and what to do with it.

They are known by their tensors' names and shapes and by their settings. Sources: transformers' `modeling_gpt2.py` and
`modeling_gpt_bigcode.py`; TRL's `modeling_value_head.py`; LLMs-from-scratch, `ch04/04_gqa` to `ch04/10_kv-sharing` and
`ch05/07` to `ch05/12`; bitsandbytes' and GPTQ's layers; nanochat's `gpt.py`; modded-nanogpt's `train_gpt.py`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ForeignModel:
    """
    A row of the table.

    Args:
        what: what such a model is, after "it is".
        advice: what to do with it.
        key: found in the name of a tensor that only such a model has.
        settings: names of settings of which one is set only in such a model.
        named: the `model_type` or the class in config.json, in lower case, that it begins with.
        is_it: tells it by its shapes.
    """

    what: str
    advice: str
    key: str | None = None
    settings: tuple[str, ...] = ()
    named: str | None = None
    is_it: Callable[[Shapes], bool] = lambda shapes: False

    def fits(self, shapes: Shapes, settings: Mapping[str, Any]) -> bool:
        architectures = settings.get("architectures")
        kinds = [settings.get("model_type"), *(architectures if isinstance(architectures, list) else [])]
        return bool(
            any(settings.get(name) for name in self.settings)
            or (self.named and any(str(kind).lower().startswith(self.named) for kind in kinds))
            or (self.key and any(re.search(self.key, name) for name in shapes))
            or self.is_it(shapes)
        )


def _is_multi_query(shapes: Shapes) -> bool:
    """One key and one value for all heads: c_attn has C + 2 * head_dim outputs."""
    width = next(
        (shape[1] for name, shape in shapes.items() if re.search(r"wte\.weight$", name) and len(shape) == 2), 0
    )
    for name, shape in shapes.items():
        if name.endswith("attn.c_attn.weight") and len(shape) == 2 and width in shape:
            head_dim = (sum(shape) - 2 * width) / 2
            return 0 < head_dim < width and width % head_dim == 0
    return False


def _has_groups(shapes: Shapes) -> bool:
    """Fewer keys than queries, in the book's names."""
    for name, shape in shapes.items():
        keys = shapes.get(name.replace("W_query", "W_key"), ())
        if name.endswith("att.W_query.weight") and len(shape) == len(keys) == 2:
            return 0 < keys[0] < shape[0] and shape[0] % keys[0] == 0
    return False


NO_CONVERTER = "no GPT-2 computes what it does, so run it with the code that trained it"
LLAMA = "transformers loads it from a model folder, and llama.cpp's convert_hf_to_gguf.py makes it a GGUF"
TABLE = (
    ForeignModel(
        "a quantised model (bitsandbytes, GPTQ or AWQ)",
        "convert the model that it was made from, or save what transformers' model.dequantize() makes of it",
        key=r"\.(absmax|nested_absmax|quant_map|SCB|qweight|qzeros|g_idx)$|quant_state\.",
        settings=("quantization_config",),
    ),
    ForeignModel(
        "a GPT2DoubleHeadsModel, which has a second head for multiple choice",
        "load it with transformers' GPT2LMHeadModel, which leaves that head out, save it and convert that",
        key=r"(^|\.)multiple_choice_head\.",
        named="gpt2doubleheads",
    ),
    ForeignModel(
        "a model with TRL's value head",
        "save the language model in it alone, with model.pretrained_model.save_pretrained(DIR), and convert that",
        key=r"(^|\.)v_head\.",
    ),
    ForeignModel(
        "a GPT-2 with cross-attention (add_cross_attention), the decoder of an encoder-decoder",
        "run it with transformers' EncoderDecoderModel or VisionEncoderDecoderModel",
        key=r"\.(crossattention|ln_cross_attn)\.",
        settings=("add_cross_attention",),
    ),
    ForeignModel(
        "a mixture of experts (MoE)",
        NO_CONVERTER,
        key=r"\.(experts|router|block_sparse_moe)\.|\.ff\.fc[123]\.\d+\.|\.ff\.gate\.weight",
        settings=("num_experts", "n_experts"),
    ),
    ForeignModel(
        "a model with multi-head latent attention (MLA)",
        NO_CONVERTER,
        key=r"\.(W_DKV|W_UK|W_UV|kv_a_proj_with_mqa|kv_b_proj)\.",
        settings=("latent_dim", "kv_lora_rank"),
    ),
    ForeignModel(
        "a GPTBigCode, a GPT-2 with multi-query attention",
        "transformers loads it as it is, and llama.cpp's convert_hf_to_gguf.py makes it a GGUF",
        named="gpt_bigcode",
        settings=("multi_query",),
        is_it=_is_multi_query,
    ),
    ForeignModel(
        "a model of the book's later chapters (Llama, Qwen or Gemma)",
        LLAMA,
        key=r"trf_blocks\.\d+\.(ff\.fc[123]\.weight|att\.q_norm\.)",
    ),
    ForeignModel(
        "a model with grouped-query attention (GQA)",
        NO_CONVERTER,
        settings=("n_kv_groups", "num_kv_groups"),
        is_it=_has_groups,
    ),
    ForeignModel(
        "a model that shares keys between layers",
        NO_CONVERTER,
        settings=("n_kv_producing_layers",),
    ),
    ForeignModel(
        "a model of Llama's shape",
        LLAMA,
        key=r"layers\.\d+\.(mlp\.(gate|gate_up)_proj|feed_forward\.w1)\.weight",
    ),
    ForeignModel(
        "nanochat's model, or an early one of modded-nanogpt, with rotary positions",
        "transformers has nanochat's as NanoChatForCausalLM, with a script that converts its checkpoints",
        key=r"h\.\d+\.attn\.c_[qkv]\.weight",
        named="nanochat",
    ),
    ForeignModel(
        "a model of modded-nanogpt, with rotary positions and value embeddings",
        NO_CONVERTER,
        key=r"^(blocks\.\d+\.(attn\.qkv_w|attn\.qkvo_w|lambdas)|skip_weights|value_embeds\.)",
    ),
)


def refuse_foreign(path: Path, shapes: Shapes, settings: Mapping[str, Any] | None = None) -> None:
    """
    Raises `InputError` for one of `TABLE`, saying what it is and what to do.

    Args:
        shapes: those of its tensors, by name.
        settings: what its config.json holds.
    """
    for row in TABLE:
        if row.fits(shapes, settings or {}):
            raise InputError(f"{path} cannot be converted: it is {row.what}; {row.advice}.")
