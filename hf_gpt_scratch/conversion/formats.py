"""Which format a file or folder is in, and opening it."""

from pathlib import Path

from ..utils.errors import InputError, UsageError
from . import (
    file_kinds,
    flax_gpt2,
    gguf_source,
    gpt2_state_dict,
    hf_gpt2,
    hub_mixin,
    llm_c,
    llms_from_scratch,
    nanogpt,
    openai_tf,
    peft_adapter,
    tf2_gpt2,
)
from .choices import FORMATS
from .foreign_models import refuse_foreign
from .source import Source
from .state_dict import load_weights, shapes_in
from .torch_file import is_torch

# Each format's module: `accepts(path, content)` tells whether a file or folder is in it, and `open_source(path,
# content, **options)` opens it; `content` is what a file of torch.save or safetensors holds, and `None` of all others.
MODULES = {
    "peft-adapter": peft_adapter,
    "hub-mixin": hub_mixin,
    "tf2-gpt2": tf2_gpt2,  # before hf-gpt2, which takes all model folders of transformers
    "flax-gpt2": flax_gpt2,
    "hf-gpt2": hf_gpt2,
    "openai-tf": openai_tf,
    "gguf": gguf_source,
    "llm.c": llm_c,
    "nanogpt": nanogpt,
    "llms-from-scratch": llms_from_scratch,
    "gpt2-state-dict": gpt2_state_dict,
}


def open_source(path: Path, format: str = "auto", **options) -> Source:
    """
    Opens a checkpoint.

    Args:
        format: one of `FORMATS`, or "auto" to find it out.
        options: those of the format in `FORMATS`. `None` is ignored.

    Raises:
        InputError: when it is in none of the formats, in another than asked, or damaged.
        UsageError: for an option that the format does not have, or a missing one that it needs.
    """
    file_kinds.refuse(path)
    content = load_weights(path) if path.is_file() and (is_torch(path) or path.suffix == ".safetensors") else None
    refuse_foreign(path, shapes_in(content))
    found = detect(path, content)
    if format not in ("auto", found):
        raise InputError(f"{path} is not a {format} checkpoint; it looks like {found}.")
    options = {name: value for name, value in options.items() if value is not None}
    for name in options.keys() - FORMATS[found]:
        raise UsageError(
            f"--{name.strip('_').replace('_', '-')} does not apply to a {found} checkpoint, which {path} is."
        )
    return MODULES[found].open_source(path, content, **options)


def detect(path: Path, content: object) -> str:
    """
    The name of a checkpoint's format, by what a folder's files are called or what a torch file holds (`content`).

    Raises:
        InputError: when it is in none of `FORMATS`, or already a model of this package.
    """
    for name, module in MODULES.items():
        if module.accepts(path, content):
            return name
    if path.is_dir():
        raise InputError(
            f"{path} is not a model folder: it has neither config.json (Hugging Face) nor hparams.json (OpenAI)."
        )
    what = "a PyTorch checkpoint, nor" if content is None else "a checkpoint"
    raise InputError(f"{path} is not {what} in one of the formats {', '.join(FORMATS)}.")
