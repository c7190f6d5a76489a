"""Which format a file or folder is in, and opening it."""

from pathlib import Path

from ..configuration_gpt_scratch import GPTScratchConfig
from ..model_folder.contents import read_config
from ..utils.errors import InputError, UsageError
from . import hf_gpt2, llms_from_scratch, nanogpt, openai_tf
from .choices import FORMATS
from .source import Source
from .torch_file import load_torch


def open_source(path: Path, format: str = "auto", **options) -> Source:
    """
    Opens a checkpoint.

    Args:
        format: one of `FORMATS`, or "auto" to find it out.
        options: `vocab_size` and `activation` for nanogpt; `n_head`, `lora_scale` and `labels` for
            llms-from-scratch. `None` is ignored.

    Raises:
        InputError: when it is in none of the formats, in another than asked, or damaged.
        UsageError: for an option that the format does not have, or a missing one that it needs.
    """
    content = load_torch(path) if path.is_file() else None
    found = detect(path, content)
    if format not in ("auto", found):
        raise InputError(f"{path} is not a {format} checkpoint; it looks like {found}.")
    options = {name: value for name, value in options.items() if value is not None}
    for name in options.keys() - FORMATS[found]:
        raise UsageError(f"--{name.replace('_', '-')} does not apply to a {found} checkpoint, which {path} is.")
    if found == "nanogpt":
        return nanogpt.open_source(path, content, **options)
    if found == "llms-from-scratch":
        return llms_from_scratch.open_source(path, content, **options)
    if found == "openai-tf":
        return openai_tf.open_source(path)
    return hf_gpt2.open_source(path)


def detect(path: Path, content: object) -> str:
    """
    The name of a checkpoint's format, by what a folder's files are called or what a torch file holds (`content`).

    Raises:
        InputError: when it is in none of `FORMATS`, or already a model of this package.
    """
    if path.is_dir():
        if (path / "config.json").exists():
            if read_config(path).get("model_type") == GPTScratchConfig.model_type:
                raise InputError(f"{path} is already a model of this package, and needs no conversion.")
            return "hf-gpt2"
        if (path / "hparams.json").exists():
            return "openai-tf"
        raise InputError(
            f"{path} is not a model folder: it has neither config.json (Hugging Face) nor hparams.json (OpenAI)."
        )
    if isinstance(content, dict):
        if "model" in content and "model_args" in content:
            return "nanogpt"
        weights = content.get("model_state_dict", content)
        if isinstance(weights, dict) and any(isinstance(key, str) and "tok_emb." in key for key in weights):
            return "llms-from-scratch"
    raise InputError(f"{path} is not a checkpoint in one of the formats {', '.join(FORMATS)}.")
