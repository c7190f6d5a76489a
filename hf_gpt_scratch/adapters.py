"""LoRA adapters of PEFT, merged into the model they were trained on."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import modeling_gpt_scratch
from .configuration_gpt_scratch import GPTScratchConfig
from .conversion.source import read_config, resolve_source
from .conversion.tokenizers import copy_tokenizer
from .errors import InputError
from .pretrained import load_model


@contextmanager
def merged_folder(base: str, adapter: str | os.PathLike) -> Iterator[Path]:
    """
    Yields a temporary folder of `base`, a model of this package, with the weights of `adapter` added to its own.

    Args:
        base: a model folder or a Hub repository.
        adapter: a folder that PEFT's `save_pretrained` wrote.

    Raises:
        InputError: when peft is missing, `base` holds no model, or `adapter` none of LoRA that fits it.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
        from peft.utils import load_peft_weights
    except ImportError:
        raise InputError("Adapters need the package peft: pip install 'hf-gpt-scratch[lora]'.") from None

    folder, adapter = resolve_source(base), Path(adapter)
    if not (adapter / "adapter_config.json").is_file():
        raise InputError(f"{adapter} is not an adapter folder: it has no adapter_config.json.")
    architecture = (read_config(folder, GPTScratchConfig.model_type).get("architectures") or ["GPTScratchModel"])[0]
    if not architecture.startswith("GPTScratch") or not hasattr(modeling_gpt_scratch, architecture):
        raise InputError(f"{folder} says it is a {architecture}, which this package does not have.")
    model = load_model(getattr(modeling_gpt_scratch, architecture), folder)
    try:
        model = PeftModel.from_pretrained(model, str(adapter))
        found, wanted = set(load_peft_weights(str(adapter), device="cpu")), set(get_peft_model_state_dict(model))
        if found != wanted:  # PEFT itself passes over them
            raise ValueError(f"keys that are missing or unknown: {', '.join(sorted(found ^ wanted))}")
        merged = model.merge_and_unload()
    except Exception as error:  # PEFT's, safetensors' and torch's own
        raise InputError(f"The adapter in {adapter} does not fit {base} ({' '.join(str(error).split())}).") from None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / folder.resolve().name
        merged.save_pretrained(path)
        copy_tokenizer(folder, path)
        yield path
