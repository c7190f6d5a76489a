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

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..configuration_gpt_scratch import GPTScratchConfig
from ..data.losses import token_losses
from ..model_folder.contents import resolve_source
from ..modeling_gpt_scratch import GPTScratchForCausalLM
from ..prompts import CHAT_TEMPLATE, OLLAMA_TEMPLATE
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError
from ..utils.files import atomic_folder, write_json
from ..utils.provenance import environment, recorded_source, sha256
from .checkpoint import Checkpoint
from .key_map import QKV, KeyMapping, expand
from .native import open_native

FILE = "model.gguf"
# Each dtype's file type, by its name in the gguf package, and that of the matrices; all else stays F32.
DTYPES = {"f32": ("ALL_F32", "F32"), "f16": ("MOSTLY_F16", "F16"), "q8_0": ("MOSTLY_Q8_0", "Q8_0")}
TOLERANCE = 1e-4  # of the largest logit, for f32; the others are what they are, and reported

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

# What tokenizers of this family cut differently: contractions, digits, runs of spaces, letters beyond ASCII.
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
    src: str,
    out: str | os.PathLike,
    dtype: str = "f32",
    text: str | os.PathLike | None = None,
) -> GGUFExport:
    """
    Writes a language model of this package as `out/model.gguf`, one tensor at a time, reads it back with
    transformers' own GGUF reader and compares the logits and the tokenizer with the source's. Beside it lies Ollama's
    `Modelfile`, with the Alpaca prompt where the tokenizer has that as its chat template.

    Args:
        dtype: of the matrices: "f32", "f16" or "q8_0" (blocks of 32 weights, 8 bits each and a scale).
        text: a file to measure the perplexity on, before and after.

    Raises:
        InputError: when `src` is no language model that GGUF's "gpt2" can express, the gguf package is missing, or
            what was written does not read back the same; then nothing is left.
    """
    from ..model_folder.loading import load_model

    try:
        import gguf
    except ImportError:
        raise InputError("GGUF needs the package gguf: pip install 'hf-gpt-scratch[convert]'.") from None
    folder = resolve_source(src)
    ours = open_native(folder, (GPTScratchForCausalLM.__name__,), "GGUF")
    config, checkpoint = ours.config, ours.checkpoint
    if config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        raise InputError(
            f"{folder} computes with {config.activation_function}; GGUF's gpt2 knows only the tanh GELU, gelu_new."
        )
    tokenizer = load_tokenizer(folder)
    entries = _tokenizer_entries(tokenizer, config.vocab_size, gguf.TokenType)
    if dtype == "q8_0" and (config.n_embd % 32 or (config.n_inner or 0) % 32):
        raise InputError(
            f"q8_0 needs rows of a multiple of 32 weights, but n_embd is {config.n_embd} and n_inner"
            f" {config.n_inner or 4 * config.n_embd}; take f16."
        )
    try:
        content = Path(text).read_text(encoding="utf-8") if text is not None else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{text} is not UTF-8 text ({error.reason}).") from None
    ids = torch.tensor(tokenizer(content, verbose=False)["input_ids"], dtype=torch.long)
    if text is not None and len(ids) < 2:
        raise InputError(f"{text} is too short to measure a perplexity on.")
    expected, before = _measure(load_model(GPTScratchForCausalLM, folder), ids)
    with atomic_folder(out) as partial:
        writer = gguf.GGUFWriter(partial / FILE, "gpt2")
        writer.add_name(Path(src).resolve().name)
        file_type, matrix_type = DTYPES[dtype]
        writer.add_file_type(gguf.LlamaFileType[file_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_settings(writer, config, tokenizer, *entries)
        head = [] if config.tie_word_embeddings else [KeyMapping("output.weight", ("lm_head.weight",))]
        _write_tensors(gguf, writer, checkpoint, expand(TABLE, config.n_layer) + head, matrix_type)
        # Ollama has a template language of its own; of others than ours it is told nothing but the prompt.
        template = OLLAMA_TEMPLATE if tokenizer.chat_template == CHAT_TEMPLATE else "{{ .Prompt }}"
        (partial / "Modelfile").write_text(
            f'FROM ./{FILE}\nTEMPLATE """{template}"""\n'
            f"PARAMETER stop {json.dumps(tokenizer.eos_token)}\nPARAMETER num_ctx {config.n_positions}\n",
            encoding="utf-8",
        )
        written = AutoTokenizer.from_pretrained(partial, gguf_file=FILE)
        for sample in (PROBE, content):
            if written(sample, verbose=False)["input_ids"] != tokenizer(sample, verbose=False)["input_ids"]:
                raise InputError("The GGUF's tokenizer cuts text differently from the source's; nothing was written.")
        sizes = {"n_positions": config.n_positions, "n_inner": config.n_inner}  # transformers reads all but these
        model = AutoModelForCausalLM.from_pretrained(partial, gguf_file=FILE, dtype=torch.float32, **sizes)
        answer, after = _measure(model, ids)
        difference = (answer - expected).abs().max().item()
        limit = TOLERANCE * max(1.0, expected.abs().max().item()) if dtype == "f32" else math.inf
        if not (math.isfinite(difference) and difference <= limit):
            raise InputError(f"The GGUF's logits differ from the source's by {difference}; nothing was written.")
        facts = environment()
        facts["versions"]["gguf"] = version("gguf")
        hashes = {file.name: sha256(file) for file in checkpoint.files}
        record = {
            "source": recorded_source(str(src)),
            "format": f"gguf {dtype}",
            "sha256": hashes,
            "max_logit_difference": difference,
        }
        if text is not None:
            record["perplexity"] = {"text_sha256": sha256(text), "before": before, "after": after}
        write_json(partial / "conversion.json", {**record, **facts})
    return GGUFExport(Path(out) / FILE, difference, before, after)


def _tokenizer_entries(tokenizer: PreTrainedTokenizerBase, vocab_size: int, kinds) -> tuple[list, list, list]:
    """The tokens, their types and the merges; raises `InputError` for what GGUF's tokenizer "gpt2" cannot express."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model, split = parts["model"], parts["pre_tokenizer"] or {"type": "none"}
    steps = split["pretokenizers"] if split["type"] == "Sequence" else [split]
    if any(step["type"] == "Digits" and step["individual_digits"] for step in steps):
        raise InputError("GGUF's gpt2 tokenizer cannot make every digit a token, as this one does.")
    plain = len(steps) == 1 and steps[0]["type"] == "ByteLevel"
    plain = plain and not steps[0]["add_prefix_space"] and steps[0].get("use_regex", True)
    plain = plain and model["type"] == "BPE" and not any(map(model.get, ("ignore_merges", "byte_fallback")))
    plain = plain and not parts["normalizer"] and tokenizer.num_special_tokens_to_add() == 0
    if not plain or any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in parts["added_tokens"]):
        raise InputError("GGUF's gpt2 tokenizer is GPT-2's byte-level BPE; this one cuts text in another way.")
    if tokenizer.eos_token is None:
        raise InputError("The tokenizer has no end token, without which llama.cpp would never stop.")
    token_of = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(token_of) >= vocab_size:
        raise InputError(f"The tokenizer has tokens up to {max(token_of)}, but the model only {vocab_size} of them.")
    added = {token["id"]: kinds.CONTROL if token["special"] else kinds.USER_DEFINED for token in parts["added_tokens"]}
    tokens = [token_of.get(number, f"[PAD{number}]") for number in range(vocab_size)]  # as llama.cpp's converter does
    types = [added.get(i, kinds.NORMAL if i in token_of else kinds.UNUSED) for i in range(vocab_size)]
    return tokens, types, [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


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
        # The tags that mark what to learn are of transformers alone.
        writer.add_chat_template(re.sub(r"{%-? *(end)?generation *-?%}", "", tokenizer.chat_template))


def _write_tensors(gguf, writer, checkpoint: Checkpoint, key_map: list[KeyMapping], matrix_type: str) -> None:
    """All the names, shapes and types first, then the values of one tensor after another."""
    kinds, shapes = {}, dict(checkpoint.shapes)
    for mapping in key_map:
        for name in mapping.ours:
            if name not in shapes:  # a model without qkv biases
                shapes[name] = shapes[name.removesuffix("bias") + "weight"][:1]
        shape = mapping.their_shape(shapes[name] for name in mapping.ours)
        is_matrix = len(shape) == 2 and mapping.theirs != "position_embd.weight"
        kinds[mapping.theirs] = kind = gguf.GGMLQuantizationType[matrix_type if is_matrix else "F32"]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(mapping.theirs, shape, None, math.prod(shape) // block * size, raw_dtype=kind)

    def read(name: str) -> torch.Tensor:
        return checkpoint[name].float() if name in checkpoint.shapes else torch.zeros(shapes[name])

    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for mapping in key_map:
            values = mapping.to_theirs(read(name) for name in mapping.ours).numpy()
            writer.write_tensor_data(gguf.quantize(values, kinds[mapping.theirs]))
    finally:
        writer.close()


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
