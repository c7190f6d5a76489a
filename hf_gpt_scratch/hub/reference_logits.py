"""
What a model answered when it was saved, kept beside it in `reference_logits.json`, so that whoever loads the folder or
the repository later can tell whether it still does.
"""

import json
from pathlib import Path

import torch

from ..conversion.proof import AUTO_CLASSES
from ..pretrained import load_pretrained
from ..saving import write_json

FILE = "reference_logits.json"
TOKENS = 32
COLUMNS = 64


def record(folder: Path) -> None:
    """Writes the answers of the model that was saved in `folder`, in fp32 on the CPU, to some fixed tokens."""
    from .. import modeling_gpt_scratch

    [architecture] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    model = load_pretrained(getattr(modeling_gpt_scratch, architecture), folder).float().eval()
    generator = torch.Generator().manual_seed(0)
    length = min(TOKENS, model.config.n_positions)
    ids = torch.randint(model.config.vocab_size, (2, length), generator=generator)
    with torch.no_grad():
        answer = model(ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    write(folder, AUTO_CLASSES[architecture], ids, answer)


def write(folder: Path, auto_class: str, input_ids: torch.Tensor, answer: torch.Tensor) -> None:
    """
    Writes the record.

    Args:
        auto_class: of transformers, which loads the model, such as "AutoModelForCausalLM".
        input_ids: `(B, T)`, without padding.
        answer: the model's first output, `(B, T, C)`, of which the last position is kept, or `(B, C)`; of many columns
            some are kept.
    """
    last = answer[:, -1] if answer.ndim == 3 else answer
    columns = torch.linspace(0, last.shape[1] - 1, min(COLUMNS, last.shape[1])).long()
    values = {"input_ids": input_ids.tolist(), "columns": columns.tolist(), "logits": last[:, columns].tolist()}
    write_json(folder / FILE, {"auto_class": auto_class, **values})
