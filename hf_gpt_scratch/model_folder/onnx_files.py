"""
What an ONNX folder is: a model in the ONNX format, laid out as transformers.js reads it, with the settings of the
model that it was exported from under stock GPT-2's names. It is for use only.
"""

import os
from dataclasses import replace
from pathlib import Path

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.constants import ONNX_ONLY, ONNX_RECORD
from ..utils.errors import InputError
from .contents import ARCHITECTURES, ModelFolder

FILES = {"fp32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}  # by what the weights are


def is_onnx_folder(folder: str | os.PathLike) -> bool:
    return Path(folder, ONNX_RECORD).is_file()


def require_no_onnx(folder: str | os.PathLike) -> None:
    """Raises `InputError` for an ONNX folder, where only the weights of torch will do."""
    if is_onnx_folder(folder):
        raise InputError(ONNX_ONLY.format(folder))


def original_config(folder: ModelFolder) -> GPTScratchConfig:
    """
    The configuration of the model that an ONNX folder was exported from.

    Raises:
        InputError: when it is not that of a model of this package.
    """
    held = (folder.architectures or [None])[0]
    settings = folder.settings | {
        "model_type": GPTScratchConfig.model_type,
        "architectures": [ARCHITECTURES.get(held, held)],
    }
    return replace(folder, settings=settings).config
