"""
What a model answered when it was saved, kept beside it in `reference_logits.json`, so that whoever loads the folder or
the repository later can tell whether it still does.
"""

import json
from pathlib import Path

import torch

from ..conversion.proof import AUTO_CLASSES
from ..errors import InputError
from ..evaluation.responses import read_json
from ..pretrained import load_pretrained
from ..provenance import sha256
from ..saving import ADAPTER_CONFIG, write_json

FILE = "reference_logits.json"
TOKENS = 32
COLUMNS = 64
# By PEFT's task: what an adapter is of, and what loads it
ADAPTED = {
    "CAUSAL_LM": ("GPTScratchForCausalLM", "AutoPeftModelForCausalLM"),
    "SEQ_CLS": ("GPTScratchForSequenceClassification", "AutoPeftModelForSequenceClassification"),
    "TOKEN_CLS": ("GPTScratchForTokenClassification", "AutoPeftModelForTokenClassification"),
}


def record(folder: Path) -> None:
    """
    Writes the answers of the model or adapter that was saved in `folder`, in fp32 on the CPU, to some fixed tokens.

    Raises:
        InputError: when it cannot be loaded, or the adapter is of a task that this package has no model for.
    """
    from .. import modeling_gpt_scratch

    architecture, auto_class = classes(folder)
    # The head of an adapter's classifier is in the adapter, not in the base model.
    has_new_head = is_adapter(folder) and architecture != "GPTScratchForCausalLM"
    model = load_pretrained(getattr(modeling_gpt_scratch, architecture), folder, new_head=has_new_head).float().eval()
    generator = torch.Generator().manual_seed(0)
    length = min(TOKENS, model.config.n_positions)
    ids = torch.randint(model.config.vocab_size, (2, length), generator=generator)
    with torch.no_grad():
        answer = model(ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    write(folder, auto_class, ids, answer)


def classes(folder: Path) -> tuple[str, str]:
    """
    The class of the model in a folder, or of that which the adapter in it is for, and the Auto class that loads it.

    Raises:
        InputError: when this package has no such model.
    """
    name = ADAPTER_CONFIG if is_adapter(folder) else "config.json"
    settings = read_json(folder / name)
    if is_adapter(folder):
        if (task := settings.get("task_type")) not in ADAPTED:
            raise InputError(f"The adapter in {folder} is of the task {task!r}; expected {' or '.join(ADAPTED)}.")
        return ADAPTED[task]
    architecture = (settings.get("architectures") or [None])[0]
    if architecture not in AUTO_CLASSES:
        raise InputError(f"{folder} holds a {architecture}; expected one of {', '.join(AUTO_CLASSES)}.")
    return architecture, AUTO_CLASSES[architecture]


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def write(folder: Path, auto_class: str, input_ids: torch.Tensor, answer: torch.Tensor) -> None:
    """
    Writes the record, with the SHA-256 of the weights that answered.

    Args:
        auto_class: of transformers or PEFT, which loads the model, such as "AutoModelForCausalLM".
        input_ids: `(B, T)`, without padding.
        answer: the model's first output, `(B, T, C)`, of which the last position is kept, or `(B, C)`; of many columns
            some are kept.
    """
    last = answer[:, -1] if answer.ndim == 3 else answer
    columns = torch.linspace(0, last.shape[1] - 1, min(COLUMNS, last.shape[1])).long()
    values = {"input_ids": input_ids.tolist(), "columns": columns.tolist(), "logits": last[:, columns].tolist()}
    weights = {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    write_json(folder / FILE, {"auto_class": auto_class, "weights": weights, **values})


def read(folder: Path) -> dict | None:
    """
    What `write` wrote in `folder`, `None` where there is nothing.

    Raises:
        InputError: when the file is no such record.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
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
    except (ValueError, TypeError, LookupError, RuntimeError, RecursionError):
        raise InputError(f"{path} is damaged; save the model again, which writes it.") from None
    return record
