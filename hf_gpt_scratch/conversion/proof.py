"""The proof of a conversion: the converted folder, where this package is not installed, against the source itself."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..errors import InputError
from . import reference
from .source import Source

AUTO_CLASSES = {
    "GPTScratchModel": "AutoModel",
    "GPTScratchForCausalLM": "AutoModelForCausalLM",
    "GPTScratchForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTScratchForTokenClassification": "AutoModelForTokenClassification",
}
TOLERANCE = 2e-5  # of the largest logit; fp32 sums in another order differ by a tenth of it

CLEAN_PROCESS = """
import sys
sys.modules["hf_gpt_scratch"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
folder, auto_class, exchange, scratch = sys.argv[1:]
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# What goes beyond 1 GB stays on disk until its turn comes.
memory = {"device_map": "auto", "max_memory": {"cpu": 10**9}, "offload_folder": scratch}
model = getattr(transformers, auto_class).from_pretrained(
    folder, trust_remote_code=True, local_files_only=True, dtype=torch.float32, **memory
)
with torch.no_grad():
    ids = load_file(exchange)["ids"]
    answer = model(ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
save_file({"answer": answer.contiguous()}, exchange)
"""


def prove(source: Source, folder: Path) -> float:
    """
    The greatest difference between the logits of the model in `folder`, loaded in a process that cannot import this
    package, and those of the source's own arithmetic, both in fp32 on the same token ids.

    Raises:
        InputError: when the folder does not load there, or the difference is more than rounding makes.
    """
    from ..hub import reference_logits  # which imports the table above

    config = source.config
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (2, min(32, config.n_positions)), generator=generator)
    ids[0, 0] = config.vocab_size - 1
    expected = reference.logits(
        source.originals or source.tensors,
        source.arithmetic,
        config.n_layer,
        config.n_head,
        config.layer_norm_epsilon,
        ids,
    )
    if source.architecture == "GPTScratchForSequenceClassification":
        expected = expected[:, -1]
    with tempfile.TemporaryDirectory() as scratch:
        exchange = f"{scratch}/exchange.safetensors"
        save_file({"ids": ids}, exchange)
        command = [
            sys.executable,
            "-c",
            CLEAN_PROCESS,
            str(folder),
            AUTO_CLASSES[source.architecture],
            exchange,
            scratch,
        ]
        # The code of the folder is copied to a place of its own, so that nothing older stands in for it.
        surroundings = {**os.environ, "HF_MODULES_CACHE": f"{scratch}/modules", "HF_HUB_OFFLINE": "1"}
        run = subprocess.run(command, capture_output=True, text=True, env=surroundings, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            reason = run.stderr.strip().splitlines()[-1:] or [f"exit status {run.returncode}"]
            raise InputError(f"The converted model does not load where this package is not installed ({reason[0]}).")
        answer = load_file(exchange)["answer"]
    difference = (answer - expected).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise InputError(
            f"The converted model's logits differ from the source's by {difference}; nothing was written."
        )
    reference_logits.write(folder, AUTO_CLASSES[source.architecture], ids, answer)
    return difference
