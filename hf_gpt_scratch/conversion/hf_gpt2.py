"""
Stock transformers GPT-2, in and out: its names, its configuration, its quirks.

Source: transformers' `models/gpt2/modeling_gpt2.py`. Its linear layers are `Conv1D`, kept as `(in, out)`, and query,
key and value are one matrix.
"""

import re
from dataclasses import replace
from pathlib import Path

from transformers import GPT2Config
from transformers.activations import ACT2FN

from ..configuration_gpt_scratch import GPTScratchConfig
from ..model_folder.contents import ARCHITECTURES, read_config
from ..utils.errors import InputError, one_line
from .checkpoint import Checkpoint
from .foreign_models import refuse_foreign
from .independent_forward import Arithmetic
from .key_map import QKV, KeyMapping, expand
from .source import Renamed, Source, Tensors, check_depth, key_of_names, strip_wrappers
from .state_dict import tie_head

NAME = "stock transformers GPT-2"

BASE = (
    KeyMapping("wte.weight", ("wte.weight",)),
    KeyMapping("wpe.weight", ("wpe.weight",)),
    KeyMapping("h.{i}.ln_1.weight", ("h.{i}.ln_1.weight",)),
    KeyMapping("h.{i}.ln_1.bias", ("h.{i}.ln_1.bias",)),
    KeyMapping("h.{i}.attn.c_attn.weight", tuple(f"h.{{i}}.attn.{name}.weight" for name in QKV), transpose=True),
    KeyMapping("h.{i}.attn.c_attn.bias", tuple(f"h.{{i}}.attn.{name}.bias" for name in QKV)),
    KeyMapping("h.{i}.attn.c_proj.weight", ("h.{i}.attn.o_proj.weight",), transpose=True),
    KeyMapping("h.{i}.attn.c_proj.bias", ("h.{i}.attn.o_proj.bias",)),
    KeyMapping("h.{i}.ln_2.weight", ("h.{i}.ln_2.weight",)),
    KeyMapping("h.{i}.ln_2.bias", ("h.{i}.ln_2.bias",)),
    KeyMapping("h.{i}.mlp.c_fc.weight", ("h.{i}.mlp.fc_in.weight",), transpose=True),
    KeyMapping("h.{i}.mlp.c_fc.bias", ("h.{i}.mlp.fc_in.bias",)),
    KeyMapping("h.{i}.mlp.c_proj.weight", ("h.{i}.mlp.fc_out.weight",), transpose=True),
    KeyMapping("h.{i}.mlp.c_proj.bias", ("h.{i}.mlp.fc_out.bias",)),
    KeyMapping("ln_f.weight", ("ln_f.weight",)),
    KeyMapping("ln_f.bias", ("ln_f.bias",)),
)

ARITHMETIC = Arithmetic(
    token_embedding="wte.weight",
    position_embedding="wpe.weight",
    attention_norm="h.{i}.ln_1",
    query_key_value=("h.{i}.attn.c_attn",),
    attention_output="h.{i}.attn.c_proj",
    mlp_norm="h.{i}.ln_2",
    mlp_in="h.{i}.mlp.c_fc",
    mlp_out="h.{i}.mlp.c_proj",
    final_norm="ln_f",
    head=None,
    in_out=True,
)

LM_HEAD = KeyMapping("lm_head.weight", ("lm_head.weight",))
HEADS = {
    "GPT2Model": (),
    "GPT2LMHeadModel": (LM_HEAD,),
    "GPT2ForSequenceClassification": (KeyMapping("score.weight", ("score.weight",)),),
    "GPT2ForTokenClassification": (
        KeyMapping("classifier.weight", ("score.weight",)),
        KeyMapping("classifier.bias", ("score.bias",)),
    ),
}
# By what the user wants, whatever config.json says
AS = {"causal-lm": "GPT2LMHeadModel"}

BASE_CLASS = "config.json names a GPT2Model, which has no head; if it is a language model, add --as causal-lm."

# Causal-mask buffers that old versions of transformers saved among the weights.
IGNORED = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")

# Settings that mean the same on both sides, under the same name.
SHARED_SETTINGS = (
    *("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function"),
    *("resid_pdrop", "embd_pdrop", "attn_pdrop", "layer_norm_epsilon", "initializer_range", "tie_word_embeddings"),
    *("use_cache", "bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id", "problem_type", "dtype"),
    *("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"),
)


def accepts(path: Path, content: object) -> bool:
    """
    Whether it is a model folder of transformers.

    Raises:
        InputError: when it is already one of this package.
    """
    if not (path / "config.json").is_file():
        return False
    if read_config(path).get("model_type") == GPTScratchConfig.model_type:
        raise InputError(f"{path} is already a model of this package, and needs no conversion.")
    return True


def open_source(folder: Path, content: None = None, as_: str | None = None) -> Source:
    """
    Opens a model folder of stock GPT-2, with `as_` (one of `AS`) as the class of that name.

    Raises:
        InputError: when it is not one, or a variant that computes something this package's model does not.
    """
    refuse_foreign(folder, {}, read_config(folder))
    checkpoint = Checkpoint(folder)
    source = source_of(folder, checkpoint, checkpoint.files, NAME, as_=as_)
    if not checkpoint.unread:
        return replace(source, stock=folder)
    others = f"ignored, as transformers does, beside {checkpoint.files[0].name}: {', '.join(checkpoint.unread)}."
    return replace(source, stock=folder, notes=(others, *source.notes))


def source_of(
    folder: Path, checkpoint: Tensors, files: list[Path], format: str, in_out: bool = True, as_: str | None = None
) -> Source:
    """
    A model folder of stock GPT-2, given its tensors, which have stock GPT-2's names, and the files that hold them.

    Args:
        in_out: the matrices of its linear layers are `(in, out)`, else `(out, in)`.
        as_: one of `AS`, to take it for that class.

    Raises:
        InputError: as `open_source`.
    """
    refuse_foreign(folder, checkpoint.shapes)
    settings = read_config(folder, "gpt2")
    architecture = AS[as_] if as_ else find_architecture(settings.get("architectures"), set(checkpoint.shapes))
    config = config_from_stock(settings)
    check_depth(folder, config.n_layer, checkpoint)
    key_of = key_of_names(checkpoint.shapes, lambda key: normalize_key(key, architecture))
    prefix = "" if architecture == "GPT2Model" else "transformer."
    embeddings = f"{prefix}wte.weight"
    if config.tie_word_embeddings and not tie_head(checkpoint, key_of, embeddings):
        raise InputError(
            "lm_head.weight differs from wte.weight although config.json ties them: set tie_word_embeddings to false"
            " there."
        )
    if architecture == "GPT2Model" and "lm_head.weight" in key_of:
        raise InputError(
            f"config.json in {folder} names a GPT2Model, which has no head, but there is an lm_head.weight: to convert"
            " the language model, add --as causal-lm."
        )
    head = next((row.theirs for row in HEADS[architecture]), None)
    head = embeddings if head == "lm_head.weight" and config.tie_word_embeddings else head
    rows = key_map(architecture, config.n_layer, config.tie_word_embeddings)
    arithmetic = replace(
        ARITHMETIC.with_prefix(prefix),
        head=head,
        in_out=in_out,
        activation=ACT2FN[config.activation_function],
        divides_by_root=config.scale_attn_weights,
        divides_by_layer=config.scale_attn_by_inverse_layer_idx,
    )
    return Source(
        format=format,
        config=config,
        architecture=ARCHITECTURES[architecture],
        key_map=rows if in_out else [replace(row, transpose=False) for row in rows],
        tensors=Renamed(checkpoint, key_of),
        arithmetic=arithmetic,
        files=files,
        settings=folder,
        folder=folder,
        notes=(BASE_CLASS,) if architecture == "GPT2Model" else (),
    )


def key_map(architecture: str, n_layer: int, tied: bool) -> list[KeyMapping]:
    """The rows for one of `HEADS`' architectures; a tied output head has no tensor of its own."""
    prefix = "" if architecture == "GPT2Model" else "transformer."
    base = [row.with_prefix(prefix) for row in expand(BASE, n_layer)]
    return base + [row for row in HEADS[architecture] if not (tied and row is LM_HEAD)]


def normalize_key(key: str, architecture: str) -> str | None:
    """
    A key of a stock checkpoint as the table spells it, or `None` for one that holds no weight.

    The base model's keys may lack their `transformer.` prefix (openai-community/gpt2), or have one too many, and
    compiled or distributed training leaves prefixes of its own.
    """
    key = strip_wrappers(key)
    bare = key.removeprefix("transformer.")
    if IGNORED.fullmatch(bare):
        return None
    if bare.split(".")[0] in ("wte", "wpe", "h", "ln_f"):
        return bare if architecture == "GPT2Model" else "transformer." + bare
    return key


def find_architecture(declared: list[str] | None, keys: set[str]) -> str:
    """The stock class a checkpoint was saved from, by its config, or by its head where the config does not say."""
    if declared:
        name = declared[0].removeprefix("TF").removeprefix("Flax")
        if name not in HEADS:
            raise InputError(
                f"The checkpoint is a {declared[0]}, which cannot be converted; these can: {', '.join(HEADS)}."
            )
        return name
    if "score.weight" in keys:
        return "GPT2ForSequenceClassification"
    return "GPT2ForTokenClassification" if "classifier.weight" in keys else "GPT2LMHeadModel"


def config_from_stock(settings: dict) -> GPTScratchConfig:
    """A stock GPT-2 `config.json` as ours; raises `InputError` for a variant of the architecture we do not have."""
    try:
        stock = GPT2Config.from_dict(settings)
    except Exception as error:  # huggingface_hub's strict dataclasses raise types of their own
        raise InputError(f"config.json does not describe a GPT-2: {one_line(error)}.") from None
    try:
        config = GPTScratchConfig(**{name: getattr(stock, name) for name in SHARED_SETTINGS})
    except ValueError as error:
        raise InputError(f"config.json does not describe a GPT-2: {error}") from None
    dropouts = (getattr(stock, name, None) for name in ("classifier_dropout", "hidden_dropout"))
    config.classifier_dropout = next((value for value in dropouts if value is not None), config.classifier_dropout)
    return config


def config_to_stock(config: GPTScratchConfig, architecture: str) -> GPT2Config:
    """Our configuration as stock GPT-2's. `n_ctx` is for llama.cpp, which still reads it."""
    settings = {name: getattr(config, name) for name in SHARED_SETTINGS}
    return GPT2Config(
        **settings,
        architectures=[architecture],
        n_ctx=config.n_positions,
        classifier_dropout=config.classifier_dropout,
    )
