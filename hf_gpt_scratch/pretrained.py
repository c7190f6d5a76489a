"""
Loading models from folders and repositories: ours as they are, a stock GPT-2 converted on the way, an adapter merged
into its base model.
"""

import os
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from . import modeling_gpt_scratch
from .adapters import merge_adapter
from .conversion.convert import convert
from .conversion.hf_gpt2 import ARCHITECTURES
from .model_folder import reference_logits
from .model_folder.contents import AUTO_CLASSES, ModelFolder, resolve_source
from .model_folder.loading import load_model
from .modeling_gpt_scratch import GPTScratchPreTrainedModel
from .tokenizer import load_tokenizer
from .utils.errors import InputError
from .utils.files import write_json


def load_pretrained(
    model_class: type[GPTScratchPreTrainedModel],
    name_or_path: str | os.PathLike,
    new_head: bool = False,
    quantization=None,
    **config_settings,
) -> GPTScratchPreTrainedModel:
    """
    Loads a local folder or a Hub repository as `model_class`: of this package, of stock GPT-2, or of a LoRA adapter,
    whose base model is loaded too and the adapter merged into it. Its arguments and what it raises are those of
    `load_model`; its `name_or_path` is the one given.
    """
    folder = ModelFolder.resolve(name_or_path)
    arguments = {"new_head": new_head, "quantization": quantization, **config_settings}
    if folder.is_adapter:
        try:
            base = load_pretrained(model_class, folder.base_folder, **arguments)
            base.name_or_path = folder.base
        except InputError as error:
            raise InputError(f"The base model of the adapter {name_or_path} cannot be loaded: {error}") from None
        model = merge_adapter(base, folder.path)
    elif folder.is_native:
        model = load_model(model_class, folder, **arguments)
    else:
        with tempfile.TemporaryDirectory() as converted:
            ours = convert(str(folder), Path(converted) / "model", tokenizer="none").folder
            model = load_model(model_class, ours, **arguments)
    model.name_or_path = str(name_or_path)
    return model


def load_with_tokenizer(
    model_class: type[GPTScratchPreTrainedModel], name_or_path: str | os.PathLike
) -> tuple[GPTScratchPreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a folder or a Hub repository, which is looked up once, as `load_pretrained`, and its tokenizer."""
    folder = str(resolve_source(name_or_path))
    return load_pretrained(model_class, folder), load_tokenizer(folder)


def record_reference_logits(folder: str | os.PathLike) -> None:
    """Writes what `reference_record` makes into the folder of the model or adapter; raises as that does."""
    write_json(Path(folder, reference_logits.FILE), reference_record(folder))


def reference_record(folder: str | os.PathLike) -> dict:
    """
    The answers of the model or adapter that was saved in `folder`, in fp32 on the CPU, to some fixed tokens.

    Raises:
        InputError: when it cannot be loaded, or the adapter is of a task that this package has no model for.
    """
    folder = ModelFolder.read(folder)
    # The head of an adapter's classifier is in the adapter, not in the base model.
    has_new_head = folder.is_adapter and folder.architecture != "GPTScratchForCausalLM"
    model = _load_as(folder.architecture, folder, has_new_head).float()
    generator = torch.Generator().manual_seed(0)
    length = min(reference_logits.TOKENS, model.config.n_positions)
    ids = torch.randint(model.config.vocab_size, (2, length), generator=generator)
    with torch.no_grad():
        answer = model(ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    return reference_logits.record(folder.path, folder.auto_class, ids, answer)


def _load_as(architecture: str, folder: ModelFolder, new_head: bool) -> GPTScratchPreTrainedModel:
    return load_pretrained(getattr(modeling_gpt_scratch, architecture), folder, new_head=new_head).eval()


def load(name_or_path: str | os.PathLike) -> tuple[GPTScratchPreTrainedModel, PreTrainedTokenizerBase]:
    """
    Loads any model of the GPT-2 family, in fp32, as the class that it was saved from, and its tokenizer.

    Args:
        name_or_path: a folder or a Hub repository of this package's model, of a stock GPT-2, or of a LoRA adapter.

    Raises:
        InputError: when it holds no such model, or no tokenizer.

    Example:
        >>> from hf_gpt_scratch import load
        >>> model, tokenizer = load("openai-community/gpt2")  # doctest: +SKIP
    """
    folder = ModelFolder.resolve(name_or_path)
    if folder.is_adapter:
        architecture = folder.architecture
    else:
        held = (folder.architectures or ["GPT2LMHeadModel"])[0]
        architecture = ARCHITECTURES.get(held, held)
        if architecture not in AUTO_CLASSES:
            raise InputError(
                f"{name_or_path} holds a {held}; expected one of {', '.join((*AUTO_CLASSES, *ARCHITECTURES))}."
            )
    return _load_as(architecture, folder, folder.is_adapter), load_tokenizer(folder.path)
