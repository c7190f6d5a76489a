"""
A language model as GGUF, the file that llama.cpp and Ollama run: weights, tokenizer and settings in one.

The layout is the one llama.cpp has for its architecture "gpt2" (its `src/models/gpt2.cpp`): matrices `(out, in)`,
query, key and value joined along `out`, and no output matrix where it is tied to the token embeddings.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration_gpt_scratch import GPTScratchConfig
from ..data.losses import token_losses
from ..model_folder.contents import resolve_source
from ..model_folder.loading import load_model
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..prompts import ollama_template
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError
from ..utils.files import atomic_folder, write_json
from ..utils.provenance import environment, recorded_source, sha256
from ..utils.requirements import GGUF, require_package
from ..utils.special_tokens import end_token_ids
from .checkpoint import Checkpoint
from .choices import LLAMA_CPP_DTYPES
from .generation_settings import generation_config
from .gguf_source import TABLE
from .key_map import KeyMapping, expand
from .llama_quantize import quantize as quantize_file
from .llama_quantize import require_quantizer
from .native import NativeModel, open_native

FILE = "model.gguf"
# For each of `choices.GGUF_DTYPES`, by their names in the gguf package, the file's type and that of the matrices; all
# else stays F32.
DTYPES = {"f32": ("ALL_F32", "F32"), "f16": ("MOSTLY_F16", "F16"), "q8_0": ("MOSTLY_Q8_0", "Q8_0")}
# The rows of a matrix consist of blocks of so many weights.
BLOCKS = {"q8_0": 32, **dict.fromkeys(LLAMA_CPP_DTYPES, 256)}
# transformers' names for what llama.cpp computes for "gpt2" (LLM_FFN_GELU): all of them are the tanh form
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh")
TOLERANCE = 1e-4  # of the largest logit, for f32; the error of the other types is reported, not limited

# What tokenizers of this family split differently: contractions, digits, runs of spaces, letters beyond ASCII.
PROBE = "It's 2024: we've 3  apples,\n\n\tthey'll cost €1234.50 — Ünïcödé, 日本語 🙂!! <|endoftext|> end  \n"


@dataclass(frozen=True)
class GGUFExport:
    """
    A `.gguf` file, how far its logits, read back by transformers, are from the source's, and the perplexities of the
    source and of the file on the text given, or `None` without one.
    """

    path: Path
    max_logit_difference: float
    perplexity_before: float | None
    perplexity_after: float | None


def export_gguf(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    dtype: str = "f32",
    text: str | os.PathLike[str] | None = None,
) -> GGUFExport:
    """
    Writes a language model of this package as `out/model.gguf`, one tensor at a time, reads it back with
    transformers' own GGUF reader and compares the logits and the tokenizer with the source's. Ollama's
    `Modelfile` is written beside it, with the Alpaca prompt where the tokenizer has that as its chat template.

    Args:
        dtype: of the matrices: "f32", "f16" or "q8_0" (blocks of 32 weights, 8 bits each and a scale); or one of
            `choices.LLAMA_CPP_DTYPES`, written by llama.cpp's own quantiser.
        text: a file to measure the perplexity on, before and after.

    Raises:
        InputError: when GGUF's "gpt2" cannot express `src`, the gguf package or llama.cpp's quantiser is missing, or
            what was written does not read back the same; then nothing is left behind.
    """
    require_package(*GGUF)
    folder = resolve_source(str(src))
    native = open_native(folder, (GPTScratchForCausalLM.__name__,), "GGUF")
    _check_settings(folder, native.config, dtype)
    tokenizer = load_tokenizer(folder)
    entries = _tokenizer_entries(tokenizer, native.config.vocab_size)
    ends = end_token_ids(native.config, generation_config(folder, native.config), tokenizer)
    content, ids = _read_text(text, tokenizer)
    expected, before = _measure(load_model(GPTScratchForCausalLM, folder), ids)
    with atomic_folder(out) as partial:
        written = "f32" if dtype in LLAMA_CPP_DTYPES else dtype
        _write_file(partial / FILE, Path(src).resolve().name, native, tokenizer, entries, written, ends)
        if dtype in LLAMA_CPP_DTYPES:
            quantize_file(partial / FILE, dtype)
        _write_modelfile(partial, native.config, tokenizer, ends)
        _check_tokenizer(partial, tokenizer, content)
        answer, after = _measure(_read_back(partial, native.config), ids)
        difference = (answer - expected).abs().max().item()
        limit = TOLERANCE * max(1.0, expected.abs().max().item()) if dtype == "f32" else math.inf
        if not (math.isfinite(difference) and difference <= limit):
            raise InputError(f"The GGUF's logits differ from the source's by {difference}; nothing was written.")
        record: dict[str, Any] = {
            "source": recorded_source(str(src)),
            "format": f"gguf {dtype}",
            "sha256": {file.name: sha256(file) for file in native.checkpoint.files},
            "max_logit_difference": difference,
        }
        if text is not None:
            record["perplexity"] = {"text_sha256": sha256(text), "before": before, "after": after}
        facts = environment()
        facts["versions"]["gguf"] = version("gguf")
        write_json(partial / "conversion.json", {**record, **facts})
    return GGUFExport(Path(out) / FILE, difference, before, after)


def _check_settings(folder: Path, config: GPTScratchConfig, dtype: str) -> None:
    if config.activation_function not in TANH_GELUS:
        raise InputError(
            f"{folder} uses the activation {config.activation_function}, but GGUF's gpt2 only has the tanh GELU,"
            " gelu_new."
        )
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise InputError(
            f"{folder} scales attention in another way (scale_attn_weights, scale_attn_by_inverse_layer_idx), which"
            " GGUF's gpt2 cannot express: export it with --to hf-gpt2."
        )
    block = BLOCKS.get(dtype, 1)
    if config.n_embd % block or (config.n_inner or 0) % block:
        raise InputError(
            f"{dtype} needs rows of a multiple of {block} weights, but n_embd is {config.n_embd} and n_inner"
            f" {config.n_inner or 4 * config.n_embd}: choose --dtype {'f16' if dtype == 'q8_0' else 'q8_0'}."
        )
    if dtype in LLAMA_CPP_DTYPES:
        require_quantizer(dtype)


def _read_text(path: str | os.PathLike[str] | None, tokenizer: PreTrainedTokenizerBase) -> tuple[str, torch.Tensor]:
    """The text to measure the perplexity on, and its tokens `(N,)`; both are empty without one."""
    try:
        content = Path(path).read_text(encoding="utf-8") if path is not None else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}).") from None
    ids = torch.tensor(tokenizer(content, verbose=False)["input_ids"], dtype=torch.long)
    if path is not None and len(ids) < 2:
        raise InputError(f"{path} is too short to measure a perplexity on: it has fewer than two tokens.")
    return content, ids


def _write_modelfile(
    folder: Path, config: GPTScratchConfig, tokenizer: PreTrainedTokenizerBase, ends: list[int]
) -> None:
    # Ollama has a template language of its own: a chat template other than ours is not translated.
    template = ollama_template(tokenizer.chat_template, tokenizer.eos_token)
    stops = "".join(
        f"PARAMETER stop {json.dumps(tokenizer.decode([token]))}\n" for token in ends if tokenizer.decode([token])
    )
    (folder / "Modelfile").write_text(
        f'FROM ./{FILE}\nTEMPLATE """{template}"""\n{stops}PARAMETER num_ctx {config.n_positions}\n',
        encoding="utf-8",
    )


def _check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    written = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    for sample in (PROBE, text):
        if written(sample, verbose=False)["input_ids"] != tokenizer(sample, verbose=False)["input_ids"]:
            raise InputError("The GGUF's tokenizer splits text differently from the source's; nothing was written.")


def _read_back(folder: Path, config: GPTScratchConfig) -> PreTrainedModel:
    sizes = {"n_positions": config.n_positions, "n_inner": config.n_inner}  # transformers reads all but these
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32, **sizes)


def _tokenizer_entries(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> tuple[list, list, list]:
    """The tokens, their types and the merges; raises `InputError` for what GGUF's tokenizer "gpt2" cannot express."""
    from gguf import TokenType

    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model, split = parts["model"], parts["pre_tokenizer"] or {"type": "none"}
    steps = split["pretokenizers"] if split["type"] == "Sequence" else [split]
    if any(step["type"] == "Digits" and step["individual_digits"] for step in steps):
        raise InputError(
            "GGUF's gpt2 tokenizer cannot split numbers into digits, as this one does (individual_digits)."
        )
    plain = len(steps) == 1 and steps[0]["type"] == "ByteLevel"
    plain = plain and not steps[0]["add_prefix_space"] and steps[0].get("use_regex", True)
    plain = plain and model["type"] == "BPE" and not any(map(model.get, ("ignore_merges", "byte_fallback")))
    plain = plain and not parts["normalizer"] and tokenizer.num_special_tokens_to_add() == 0
    if not plain or any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in parts["added_tokens"]):
        raise InputError("GGUF's gpt2 tokenizer is GPT-2's byte-level BPE, but this one splits text differently.")
    if tokenizer.eos_token is None:
        raise InputError("The tokenizer has no EOS token, without which llama.cpp would never stop.")
    token_of = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(token_of) >= vocab_size:
        raise InputError(f"The tokenizer has tokens up to {max(token_of)}, but the model only {vocab_size}.")
    added = {
        token["id"]: TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        for token in parts["added_tokens"]
    }
    tokens = [token_of.get(number, f"[PAD{number}]") for number in range(vocab_size)]  # as llama.cpp's converter does
    types = [added.get(i, TokenType.NORMAL if i in token_of else TokenType.UNUSED) for i in range(vocab_size)]
    return tokens, types, [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def _write_file(
    path: Path,
    name: str,
    native: NativeModel,
    tokenizer: PreTrainedTokenizerBase,
    entries: tuple[list, list, list],
    dtype: str,
    ends: list[int],
) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "gpt2")
    try:
        writer.add_name(name)
        file_type, matrix_type = DTYPES[dtype]
        writer.add_file_type(gguf.LlamaFileType[file_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_settings(writer, native.config, tokenizer, *entries)
        # Besides the EOS token, the format has room for one more that ends a text; Ollama reads all in the Modelfile.
        for token in [token for token in ends if token != tokenizer.eos_token_id][:1]:
            writer.add_eot_token_id(token)
        key_map = expand(TABLE, native.config.n_layer)
        if not native.config.tie_word_embeddings:
            key_map.append(KeyMapping("output.weight", ("lm_head.weight",)))
        _write_tensors(writer, native.checkpoint, key_map, matrix_type)
    finally:
        writer.close()


def _add_settings(writer, config: GPTScratchConfig, tokenizer, tokens: list, types: list, merges: list) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    for kind in ("bos", "eos", "pad"):
        if (number := getattr(tokenizer, f"{kind}_token_id")) is not None:
            getattr(writer, f"add_{kind}_token_id")(number)
    if isinstance(tokenizer.chat_template, str):
        # Only transformers knows the tags that mark what to learn.
        writer.add_chat_template(re.sub(r"{%-? *(end)?generation *-?%}", "", tokenizer.chat_template))


def _write_tensors(writer, checkpoint: Checkpoint, key_map: list[KeyMapping], matrix_type: str) -> None:
    """All the names, shapes and types first, then the values of one tensor after another."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quantize

    kinds, shapes = {}, dict(checkpoint.shapes)
    for row in key_map:
        for name in row.ours:
            if name not in shapes:  # a model without qkv biases
                shapes[name] = shapes[name.removesuffix("bias") + "weight"][:1]
        shape = row.their_shape(shapes[name] for name in row.ours)
        is_matrix = len(shape) == 2 and row.theirs != "position_embd.weight"
        kinds[row.theirs] = kind = GGMLQuantizationType[matrix_type if is_matrix else "F32"]
        block, size = GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(row.theirs, shape, None, math.prod(shape) // block * size, raw_dtype=kind)

    def read(name: str) -> torch.Tensor:
        return checkpoint[name].float() if name in checkpoint.shapes else torch.zeros(shapes[name])

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for row in key_map:
        values = row.to_theirs(read(name) for name in row.ours).numpy()
        writer.write_tensor_data(quantize(values, kinds[row.theirs]))


@torch.no_grad()
def _measure(model, ids: torch.Tensor) -> tuple[torch.Tensor, float | None]:
    """The logits on random tokens, and the perplexity on `ids` `(N,)` in windows as long as the model reads."""
    model.eval()
    n_positions, generator = model.config.n_positions, torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (2, min(32, n_positions)), generator=generator)
    logits, loss, count = model(tokens, use_cache=False).logits, 0.0, 0
    for window in ids.split(n_positions):
        if len(window) > 1:
            loss += token_losses(model(window[None], use_cache=False).logits, window[None]).sum().item()
            count += len(window) - 1
    return logits, math.exp(loss / count) if count else None
