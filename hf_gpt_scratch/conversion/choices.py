"""
The names that a user chooses from, of formats, types and sizes, and what a conversion assumes without them: read
by the command line before torch is there.
"""

from collections.abc import Mapping

# Each format to convert from, and the options it has.
FORMATS = {
    "hf-gpt2": frozenset({"as_"}),
    "nanogpt": frozenset({"vocab_size", "activation"}),
    "llms-from-scratch": frozenset({"n_head", "lora_scale", "labels"}),
    "openai-tf": frozenset(),
}
AS = ("causal-lm",)  # what to take a stock GPT-2 for, whatever its config.json says
ACTIVATIONS = ("gelu", "gelu_new")  # nanoGPT's: the exact GELU and, before July 2023, its tanh form
TARGETS = ("hf-gpt2", "gguf")  # to export to
GGUF_DTYPES = ("f32", "f16", "q8_0")
OPENAI_SIZES = ("124M", "355M", "774M", "1558M")
# The settings that a checkpoint's files may not hold, as told in a sentence
ASSUMED = {"n_head": "{} attention heads", "lora_scale": "a LoRA scale of {}", "activation": "the activation {}"}


def assuming(assumed: Mapping, with_options: bool = False) -> str:
    """The end of the sentence about the proof: what it assumed, and with which options to change that."""
    if not assumed:
        return ""
    what = " and ".join(ASSUMED[name].format(value) for name, value in assumed.items())
    options = " or ".join(f"--{name.replace('_', '-')}" for name in assumed)
    change = f" (to change it: {options})" if with_options else ""
    return f", assuming {what}, which the file does not hold{change}"
