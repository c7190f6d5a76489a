"""The names that a user chooses from, of formats, types and sizes: read by the command line before torch is there."""

# Each format to convert from, and the options it has.
FORMATS = {
    "hf-gpt2": frozenset(),
    "nanogpt": frozenset({"vocab_size", "activation"}),
    "llms-from-scratch": frozenset({"n_head", "lora_scale", "labels"}),
    "openai-tf": frozenset(),
}
ACTIVATIONS = ("gelu", "gelu_new")  # nanoGPT's: the exact GELU and, before July 2023, its tanh form
TARGETS = ("hf-gpt2", "gguf")  # to export to
GGUF_DTYPES = ("f32", "f16", "q8_0")
OPENAI_SIZES = ("124M", "355M", "774M", "1558M")
