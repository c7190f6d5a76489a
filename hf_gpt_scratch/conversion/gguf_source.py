"""
A GGUF file of llama.cpp's architecture "gpt2": its table of names, for both ways, and the way in.

A file also holds the tokenizer: tokens, their types and merges. llama.cpp's converter for GPT-2 writes the token
embeddings once more as the output matrix, `output.weight`; where the two are equal, the model is tied.
"""

from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.errors import InputError, one_line
from ..utils.special_tokens import as_setting
from .gguf_file import MAGIC, GGUFFile, positive_number, whole_number
from .independent_forward import Arithmetic
from .key_map import QKV, KeyMapping, expand
from .source import Renamed, Source, Tensors, check_depth, make_config

NAME = "GGUF"
ARCHITECTURE = "gpt2"
LAYERS = {
    "blk.{i}.attn_norm": ("h.{i}.ln_1",),
    "blk.{i}.attn_qkv": tuple(f"h.{{i}}.attn.{name}" for name in QKV),
    "blk.{i}.attn_output": ("h.{i}.attn.o_proj",),
    "blk.{i}.ffn_norm": ("h.{i}.ln_2",),
    "blk.{i}.ffn_up": ("h.{i}.mlp.fc_in",),
    "blk.{i}.ffn_down": ("h.{i}.mlp.fc_out",),
    "output_norm": ("ln_f",),
}
TABLE = (
    KeyMapping("token_embd.weight", ("transformer.wte.weight",)),
    KeyMapping("position_embd.weight", ("transformer.wpe.weight",)),
    *(
        KeyMapping(f"{theirs}.{part}", tuple(f"transformer.{name}.{part}" for name in ours))
        for theirs, ours in LAYERS.items()
        for part in ("weight", "bias")
    ),
)
EMBEDDINGS, HEAD = "token_embd.weight", "output.weight"
ARITHMETIC = {
    "token_embedding": EMBEDDINGS,
    "position_embedding": "position_embd.weight",
    "attention_norm": "blk.{i}.attn_norm",
    "query_key_value": ("blk.{i}.attn_qkv",),
    "attention_output": "blk.{i}.attn_output",
    "mlp_norm": "blk.{i}.ffn_norm",
    "mlp_in": "blk.{i}.ffn_up",
    "mlp_out": "blk.{i}.ffn_down",
    "final_norm": "output_norm",
}
SIZES = {
    "n_positions": "context_length",
    "n_embd": "embedding_length",
    "n_inner": "feed_forward_length",
    "n_layer": "block_count",
    "n_head": "attention.head_count",
}
SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}  # of a tokenizer, in GGUF's words
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # types of tokens


def accepts(path: Path, content: object) -> bool:
    """Whether it is a GGUF file."""
    if path.is_dir():
        return False
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open_source(path: Path, content: None = None) -> Source:
    """
    Opens a GGUF file.

    Raises:
        InputError: when the gguf package is not installed, or the file is damaged, of another architecture or
            quantised in a way that is not read.
    """
    file = GGUFFile(path)
    settings = file.settings
    _require_gpt2(path, settings)
    config = _config(path, settings, file)
    check_depth(path, config.n_layer, file)
    tied = HEAD not in file.shapes or (
        file.shapes[HEAD] == file.shapes[EMBEDDINGS] and file[HEAD].equal(file[EMBEDDINGS])
    )
    tensors = Renamed(file, {name: name for name in file.shapes if not (tied and name == HEAD)})
    config.tie_word_embeddings = tied
    key_map = expand(TABLE, config.n_layer)
    has_tokenizer = settings.get("tokenizer.ggml.model") not in (None, "none", "no_vocab")
    return Source(
        format=NAME,
        config=config,
        architecture="GPTScratchForCausalLM",
        key_map=key_map if tied else [*key_map, KeyMapping(HEAD, ("lm_head.weight",))],
        tensors=tensors,
        arithmetic=Arithmetic(**ARITHMETIC, head=EMBEDDINGS if tied else HEAD),
        files=[path],
        tokenizer=partial(tokenizer_of, path, settings) if has_tokenizer else None,
        notes=_notes(path, file),
    )


def _require_gpt2(path: Path, settings: dict[str, Any]) -> None:
    if settings.get("split.count", 0) not in (0, 1):
        raise InputError(
            f"{path} is one of several parts of a model: join them with llama.cpp's `llama-gguf-split --merge`."
        )
    architecture = settings.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise InputError(f"{path} is a GGUF of the architecture {architecture!r}; only gpt2 can be converted.")
    heads, keys = (settings.get(f"{ARCHITECTURE}.attention.head_count{end}") for end in ("", "_kv"))
    if keys not in (None, heads):
        raise InputError(f"{path} has {heads} attention heads that share {keys} keys and values, unlike any GPT-2.")


def _config(path: Path, settings: dict[str, Any], tensors: Tensors) -> GPTScratchConfig:
    if len(tensors.shapes.get(EMBEDDINGS, ())) != 2:
        raise InputError(f"{path} lacks the matrix {EMBEDDINGS}, which every GPT-2 has.")
    try:
        sizes = {ours: whole_number(settings, f"{ARCHITECTURE}.{theirs}") for ours, theirs in SIZES.items()}
        epsilon = positive_number(settings, f"{ARCHITECTURE}.attention.layer_norm_epsilon")
    except ValueError as error:
        raise InputError(f"{path} does not describe a GPT: {error}") from None
    config = make_config(path, vocab_size=tensors.shapes[EMBEDDINGS][0], layer_norm_epsilon=epsilon, **sizes)
    for kind in ("bos", "eos", "pad"):
        setattr(config, f"{kind}_token_id", _special(settings, kind, config.vocab_size))
    ends = (config.eos_token_id, _special(settings, "eot", config.vocab_size))
    config.eos_token_id = as_setting(list(dict.fromkeys(token for token in ends if token is not None)))
    return config


def _special(settings: dict[str, Any], kind: str, size: int) -> int | None:
    number = settings.get(f"tokenizer.ggml.{SPECIAL.get(kind, kind)}_token_id")
    return number if type(number) is int and 0 <= number < size else None


def _notes(path: Path, file: GGUFFile) -> tuple[str, ...]:
    quantised = sum(kind == "Q8_0" for kind in file.types.values())
    if not quantised:
        return ()
    return (
        f"{quantised} of the {len(file.types)} tensors in {path} are quantised (Q8_0): the model computes what the"
        " file does, not what it was before.",
    )


def tokenizer_of(path: Path, settings: dict[str, Any]) -> PreTrainedTokenizerBase:
    """
    The tokenizer that the settings of the GGUF file `path` hold, with the same ids, special tokens and chat template.

    Raises:
        InputError: when it is not GPT-2's byte-level BPE, or its lists do not fit each other.
    """
    kind, split = settings["tokenizer.ggml.model"], settings.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or split not in ("gpt-2", "default"):
        raise InputError(
            f"The tokenizer in {path} is {kind!r} and splits text as {split!r}, not as GPT-2 does: pass the one the"
            " model was trained with as --tokenizer DIR, or --tokenizer none."
        )
    try:
        return _build_tokenizer(settings)
    except Exception as error:  # of our checks, of the library's
        raise InputError(f"{path} holds no tokenizer that can be read ({one_line(error)}).") from None


def _build_tokenizer(settings: dict[str, Any]) -> PreTrainedTokenizerBase:
    tokens, merges = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.merges"]
    types = settings.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise ValueError(f"it has {len(tokens)} tokens, but {len(types)} types")
    vocabulary = {token: number for number, token in enumerate(tokens) if types[number] != UNUSED}
    if len(vocabulary) != sum(kind != UNUSED for kind in types):
        raise ValueError("a token occurs twice")
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {f"{kind}_token": _special(settings, kind, len(tokens)) for kind in SPECIAL}
    named = {kind: tokens[number] for kind, number in special.items() if number is not None}
    for number, (token, kind) in enumerate(zip(tokens, types)):
        if kind == CONTROL or number in special.values():
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
    begin, end = (settings.get(f"tokenizer.ggml.add_{kind}_token") is True for kind in ("bos", "eos"))
    if begin or end:
        tokenizer.post_processor = _surround(named, begin, end, vocabulary)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{"pad_token": named.get("eos_token"), **named},
        chat_template=settings.get("tokenizer.chat_template"),
        model_max_length=whole_number(settings, f"{ARCHITECTURE}.context_length"),
        clean_up_tokenization_spaces=False,
    )


def _surround(named: dict[str, str], begin: bool, end: bool, vocabulary: dict[str, int]) -> processors.PostProcessor:
    """What puts a BOS token before every text, an EOS token after it."""
    around = [named[f"{kind}_token"] for kind, wanted in (("bos", begin), ("eos", end)) if wanted]
    first, last = named["bos_token"] if begin else None, named["eos_token"] if end else None
    template = [part for part in (first, "$A", last) if part is not None]
    return processors.TemplateProcessing(
        single=template, special_tokens=[(token, vocabulary[token]) for token in {*around}]
    )
