"""
What a model answered when it was saved, kept beside it in `reference_logits.json`, so that whoever loads the folder or
the repository later can tell whether it still does.
"""

from pathlib import Path

import torch

from ..utils.errors import InputError
from ..utils.files import read_json_object, write_json
from ..utils.provenance import sha256
from .contents import ModelFolder

FILE = "reference_logits.json"
TOKENS = 32
COLUMNS = 64
TOLERANCE = 2e-5  # of the largest logit; fp32 sums in another order differ by a tenth of it


def write(folder: Path, auto_class: str, input_ids: torch.Tensor, answer: torch.Tensor) -> None:
    """Writes what `record` makes into `folder`."""
    write_json(folder / FILE, record(folder, auto_class, input_ids, answer))


def record(folder: Path, auto_class: str, input_ids: torch.Tensor, answer: torch.Tensor) -> dict:
    """
    The record of an answer, with the SHA-256 of the weights in `folder`, which gave it.

    Args:
        auto_class: of transformers or PEFT, which loads the model, such as "AutoModelForCausalLM".
        input_ids: `(B, T)`, without padding.
        answer: the model's first output, `(B, T, C)`, of which the last position is kept, or `(B, C)`; of many columns
            some are kept.
    """
    last = answer[:, -1] if answer.ndim == 3 else answer
    columns = torch.linspace(0, last.shape[1] - 1, min(COLUMNS, last.shape[1])).long()
    values = {"input_ids": input_ids.tolist(), "columns": columns.tolist(), "logits": last[:, columns].tolist()}
    files = sorted(name for name in ModelFolder.read(folder).weight_files if name.endswith(".safetensors"))
    weights = {name: sha256(folder / name) for name in files if (folder / name).is_file()}
    return {"auto_class": auto_class, "weights": weights, **values}


def read(folder: Path) -> dict | None:
    """
    What `write` wrote in `folder`, `None` where there is nothing.

    Raises:
        InputError: when the file is not such a record.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        record = read_json_object(path)
        ids, columns = (torch.tensor(record[name], dtype=torch.long) for name in ("input_ids", "columns"))
        logits = torch.tensor(record["logits"], dtype=torch.float64)
        shapes = (ids.ndim, columns.ndim, logits.shape)
        if (
            shapes != (2, 1, (len(ids), len(columns)))
            or not logits.numel()
            or not isinstance(record["auto_class"], str)
            or not isinstance(record["weights"], dict)
        ):
            raise ValueError
    except (ValueError, TypeError, LookupError, RuntimeError):
        raise InputError(f"{path} is damaged; save the model again, which writes it.") from None
    return record
