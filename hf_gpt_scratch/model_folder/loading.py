"""Loads this package's models from their folders; names what does not fit."""

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.utils import logging

from ..configuration_gpt_scratch import GPTScratchConfig
from ..modeling_gpt_scratch import GPTScratchPreTrainedModel
from ..utils.errors import InputError, damage_told
from .code import require_no_code_of_the_hub
from .contents import ModelFolder
from .settings_check import require_generation, require_weights_for
from .weight_files import INDEX, ORDER, shards_of

HEADS = ("score.", "lm_head.")  # what their weights' names begin with
SMALL = 10**9  # bytes of weights that load without a progress bar


@contextmanager
def _without_advice_to_trust(folder: Path) -> Iterator[None]:
    """Torch's refusal of a pickle that is more than weights, but not its advice to load it all the same."""
    try:
        yield
    except pickle.UnpicklingError:
        raise InputError(
            f"The weights in {folder} are a pickle that holds more than tensors, which may be code, or is damaged; it"
            " was not loaded. Ask for model.safetensors."
        ) from None


def load_model(
    model_class: type[GPTScratchPreTrainedModel],
    folder: str | os.PathLike,
    new_head: bool = False,
    quantization=None,
    **config_settings,
) -> GPTScratchPreTrainedModel:
    """
    Loads a local folder of this package's model as `model_class`, in fp32.

    Args:
        new_head: whether a head that the folder lacks, or has for another number of labels, may be randomly
            initialised, and one of another kind ignored.
        quantization: a `BitsAndBytesConfig`, to quantize the matrices.
        config_settings: settings to change, such as `id2label` or a dropout.

    Raises:
        InputError: when the folder holds no such model, or weights are damaged, missing or unexpected, naming them.
    """
    model_folder = ModelFolder.read(folder)
    folder = model_folder.path
    require_weights_for(model_folder.config, folder)
    # safetensors, torch and transformers each have their own errors for damaged files
    with damage_told(f"The weights in {folder} cannot be loaded ({{}})."):
        config = GPTScratchConfig.from_pretrained(folder)
        read = {  # what transformers makes of the settings
            "attn_implementation": config._attn_implementation,
            "quantization_config": getattr(config, "quantization_config", None),
        }
        require_no_code_of_the_hub(folder, model_folder.settings, read)
        for name, value in config_settings.items():
            setattr(config, name, value)
        config.validate_architecture()
        for index in (folder / name for name in ORDER if name.endswith(INDEX)):
            if index.is_file():
                shards_of(index)  # which raises where it names a file outside of the folder
        with _quietly(model_folder), _without_advice_to_trust(folder):
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                quantization_config=quantization,
                local_files_only=True,
                trust_remote_code=False,  # nor ask on a terminal whether to
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, all of them, rather than raised
            )
        if model.can_generate():
            require_generation(model.generation_config, folder)
    _require_fit(model, report, folder, HEADS if new_head else ())
    return model


@contextmanager
def _quietly(folder: ModelFolder) -> Iterator[None]:
    """
    Without transformers' progress bar, where the weights are small, and without its report on weights that do not fit,
    which `_require_fit` gives in one sentence. Afterwards its settings are as before.
    """
    paths = (folder.path / name for name in folder.weight_files)
    sizes = (path.stat().st_size for path in paths if path.is_file())
    verbosity, has_bar = logging.get_verbosity(), logging._tqdm_active
    logging.set_verbosity_error()
    # Not by `disable_progress_bar`, which changes huggingface_hub's bars too, and does not tell what they were.
    logging._tqdm_active = has_bar and sum(sizes) > SMALL
    try:
        yield
    finally:
        logging._tqdm_active = has_bar
        logging.set_verbosity(verbosity)


def _require_fit(model: GPTScratchPreTrainedModel, report: dict, folder: Path, new: tuple[str, ...]) -> None:
    """Raises `InputError` for weights that do not fit, except those whose names begin with one of `new`."""
    kinds = {
        "missing": report["missing_keys"],
        "unknown": report["unexpected_keys"],
        "of another shape": {key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]},
    }
    problems = [(kind, key) for kind, keys in kinds.items() for key in sorted(keys) if not key.startswith(new)]
    if not problems:
        return
    wanted = type(model).__name__
    held = (model.config.architectures or [wanted])[0]
    if held != wanted and all(key.startswith(HEADS) for _, key in problems):
        raise InputError(f"{folder} holds a {held}, which cannot be used as a {wanted}.")
    named = ", ".join(" ".join(problem) for problem in problems)
    raise InputError(f"The weights in {folder} do not fit its config.json: {named}.")
