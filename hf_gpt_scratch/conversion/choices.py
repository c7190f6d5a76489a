"""
The names that a user chooses from, of formats, types and sizes, and what a conversion assumes without them: read
by the command line before torch is there.
"""

from collections.abc import Iterable, Mapping

# Each format to convert from, and the options it has.
FORMATS = {
    "hf-gpt2": frozenset({"as_"}),
    "nanogpt": frozenset({"vocab_size", "activation"}),
    "llms-from-scratch": frozenset({"n_head", "lora_scale", "labels", "window", "window_stride"}),
    "gpt2-state-dict": frozenset({"n_head", "attention_scale", "activation", "vocab_size"}),
    "peft-adapter": frozenset(),
    "hub-mixin": frozenset(
        {"n_head", "attention_scale", "activation", "vocab_size", "lora_scale", "labels", "window", "window_stride"}
    ),
    "openai-tf": frozenset(),
    "gguf": frozenset(),
    "tf2-gpt2": frozenset({"as_"}),
    "flax-gpt2": frozenset({"as_"}),
    "llm.c": frozenset(),
}
AS = ("causal-lm",)  # what to take a stock GPT-2 for, whatever its config.json says
ACTIVATIONS = ("gelu", "gelu_new")  # nanoGPT's: the exact GELU and, before July 2023, its tanh form
# What stock GPT-2 divides attention scores by: the square root of a head's width, also the block's number, nothing
ATTENTION_SCALES = ("root", "root-and-layer", "none")
TARGETS = ("hf-gpt2", "gguf", "onnx")  # to export to
GGUF_DTYPES = ("f32", "f16", "q8_0")
ONNX_DTYPES = ("fp32", "int8")
LLAMA_CPP_DTYPES = ("q4_k_m", "q5_k_m", "q6_k")  # which llama.cpp's own quantiser writes
OPENAI_SIZES = ("124M", "355M", "774M", "1558M")
# The settings that a checkpoint's files may not hold, as told in a sentence
ASSUMED = {
    "n_head": "{} attention heads",
    "lora_scale": "a LoRA scale of {}",
    "attention_scale": "the attention scale {}",
    "activation": "the activation {}",
    "window": "a sliding window of {} tokens",
    "window_stride": "a window stride of {}",
}

# Those whose values are too alike for a text to tell: where it does not, the default stands
STANDING = frozenset({"activation"})


def assuming(assumed: Mapping, with_options: bool = False) -> str:
    """The end of the sentence about the proof: what it assumed, and with which options to change that."""
    if not assumed:
        return ""
    change = f" (to change it: {options_of(assumed)})" if with_options else ""
    return f", assuming {_described(assumed)}, which the file does not hold{change}"


def guess_warning(guessed: Mapping) -> str:
    """The sentence about settings that were assumed though neither the user gave them nor a text told them."""
    verb, pronoun = ("are guesses", "them") if len(guessed) > 1 else ("is a guess", "it")
    text = ", or --calibration-text FILE, a text that the model should predict well"
    return (
        f"{_described(guessed)} {verb}: the file does not hold {pronoun}, and a wrong one goes unnoticed, as both"
        f" sides of the comparison use it; give {options_of(guessed)}{'' if set(guessed) <= STANDING else text}."
    )


def options_of(settings: Iterable[str]) -> str:
    """The options that give these settings, for a sentence."""
    return _listed(map(option, settings), "or")


def option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _described(settings: Mapping) -> str:
    phrases = {**ASSUMED, **({"window": "attention without a window"} if settings.get("window") == 0 else {})}
    return _listed((phrases[name].format(value) for name, value in settings.items()), "and")


def _listed(parts: Iterable[str], word: str) -> str:
    *first, last = parts
    return f"{', '.join(first)} {word} {last}" if first else last
