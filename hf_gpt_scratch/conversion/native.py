"""A folder of this package's own model, opened to be taken elsewhere, and what such a folder has to hold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .. import modeling_gpt_scratch
from ..configuration_gpt_scratch import GPTScratchConfig
from ..model_folder.code import require_no_code_of_the_hub
from ..model_folder.contents import read_config
from ..utils.errors import InputError
from .checkpoint import Checkpoint
from .safetensors_file import DTYPES


@dataclass(frozen=True)
class NativeModel:
    """A model folder's configuration, the class it was saved from and its tensors, which are those of that class."""

    config: GPTScratchConfig
    architecture: str
    checkpoint: Checkpoint


def open_native(folder: Path, architectures: tuple[str, ...], target: str) -> NativeModel:
    """
    Opens a model folder.

    Args:
        architectures: those of our classes that `target` has a counterpart for.
        target: the format to name when the folder holds none of them.

    Raises:
        InputError: when it holds none of them, has a sliding window, or asks for code from the Hub; or when its keys
            or shapes are not those its configuration asks for.
    """
    settings = read_config(folder, GPTScratchConfig.model_type)
    require_no_code_of_the_hub(folder, settings)
    try:
        config = GPTScratchConfig(**settings)
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'} does not describe a model: {error}") from None
    architecture = (settings.get("architectures") or ["model without a class name"])[0]
    if architecture not in architectures:
        raise InputError(f"{folder} holds a {architecture}; {target} takes only {' or '.join(architectures)}.")
    _check_window(folder, config, target)
    checkpoint = Checkpoint(folder)
    check_keys(checkpoint.shapes, native_shapes(config, architecture))
    check_dtypes(checkpoint.dtypes)
    return NativeModel(config, architecture, checkpoint)


def _check_window(folder: Path, config: GPTScratchConfig, target: str) -> None:
    """Raises `InputError` for a sliding window that hides any token, which no target of ours has."""
    has_window = "sliding_attention" in getattr(config, "layer_types", ())
    if has_window and config.sliding_window < config.n_positions:
        raise InputError(
            f"{folder} has a sliding window of {config.sliding_window} tokens, which {target} does not have: its"
            " answers would differ on longer texts."
        )


def native_shapes(config: GPTScratchConfig, architecture: str) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that a saved model of this configuration has, found without its memory."""
    try:
        with torch.device("meta"):
            model = getattr(modeling_gpt_scratch, architecture)(config)
    except (RuntimeError, TypeError) as error:  # sizes beyond all memory
        raise InputError(f"No model can be built from this configuration ({str(error).splitlines()[0]}).") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    return shapes


def check_keys(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Raises `InputError` naming every key that is missing, unknown or of another shape than expected."""
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unknown {name}" for name in found if name not in expected]
    problems += [
        f"{name} has shape {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if problems:
        raise InputError(f"The checkpoint does not fit its configuration: {'; '.join(problems)}.")


def check_dtypes(dtypes: dict[str, torch.dtype | None]) -> None:
    """Raises `InputError` naming every tensor of a type that no weight has."""
    others = [name for name, dtype in dtypes.items() if dtype not in DTYPES.values()]
    if others:
        raise InputError(
            f"Weights must be of one of the types {', '.join(DTYPES)}; these are not: {', '.join(others)}."
        )


def check_finite(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """The tensor itself; raises `InputError` when it has NaN or infinite values."""
    # The sum tells at a fraction of the time; only finite values too large for it need the closer look. NumPy's, as
    # torch's leaves threads behind that wait busily for more, on cores that the writing needs.
    values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        is_finite = np.isfinite(values.sum(dtype=np.float32))
    if not is_finite and not tensor.isfinite().all():
        raise InputError(f"{name} has NaN or infinite values.")
    return tensor
