"""A folder or a Hub repository loaded in a process of its own, in which this package cannot be imported."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import get_token

from ..errors import InputError

# Read by the tokenizer there and here, which must make the same tokens of them
TEXTS = ("plain words", "Café naïve, 1234 €", "  two spaces\nand a line", "emoji 😀 and tabs\t.")
SCRIPT = """
import json, sys
sys.modules["hf_gpt_scratch"] = None
import torch, transformers
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
source, revision, classes, reference, texts = json.loads(sys.stdin.read())
where = {"trust_remote_code": True, "revision": revision or "main"}

def answer(model):
    ids = torch.tensor(reference["input_ids"])
    with torch.no_grad():
        values = model.float().eval()(ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    values = values[:, -1] if values.ndim == 3 else values
    return values[:, reference["columns"]].tolist()

def load(name):
    if name == "AutoConfig":
        return {"code": type(transformers.AutoConfig.from_pretrained(source, **where)).__module__}
    if name == "AutoTokenizer":
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **where)
        return {"ids": [tokenizer(text)["input_ids"] for text in texts]}
    if name.startswith("AutoPeft"):
        import peft
        model, report = getattr(peft, name).from_pretrained(source, **where), {}
        code = type(model.get_base_model()).__module__
    else:
        auto_class = getattr(transformers, name)
        model, report = auto_class.from_pretrained(source, output_loading_info=True, dtype=torch.float32, **where)
        code = type(model).__module__
    keys = ("missing", "unexpected", "mismatched")
    kinds = {kind: sorted(map(str, report.get(kind + "_keys", ()))) for kind in keys}
    is_reference = reference is not None and reference["auto_class"] == name
    return {"code": code, **kinds, "logits": answer(model) if is_reference else None}

answers = {}
for name in ["AutoTokenizer", *classes]:
    try:
        answers[name] = load(name)
    except BaseException as error:
        answers[name] = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0]}
print(json.dumps(answers))
"""


def load_elsewhere(
    source: Path | str, classes: Sequence[str], reference: dict | None = None, revision: str | None = None
) -> dict[str, dict]:
    """
    Loads `source` by AutoTokenizer and each of the other Auto classes, with a cache of its own.

    Args:
        source: a folder's `Path`, which is loaded without a network, or a repository, which is downloaded anew.
        reference: what `reference_logits.record` wrote, to be answered by the class that it names.

    Returns:
        By class: `code`, the module its class comes from, the `missing`, `unexpected` and `mismatched` keys, and
        `logits`; of AutoTokenizer the `ids` of each of `TEXTS`; or the `error` that it failed with.

    Raises:
        InputError: when the process itself fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        cache = {"HF_MODULES_CACHE": f"{scratch}/modules"}
        if isinstance(source, Path):
            source, cache["HF_HUB_OFFLINE"] = str(source.absolute()), "1"
        else:  # with the token of this process, which may be one that only Colab's notebook can read
            cache |= {"HF_HUB_CACHE": f"{scratch}/hub", "HF_TOKEN": get_token() or ""}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=json.dumps([source, revision, list(classes), reference, TEXTS]),
            capture_output=True,
            text=True,
            env={**os.environ, **cache},
            cwd=scratch,  # where no folder has the name of a repository
        )
        if run.returncode != 0:
            reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
            raise InputError(f"The process that was to load {source} failed ({reason}).")
        return json.loads(run.stdout.strip().splitlines()[-1])
