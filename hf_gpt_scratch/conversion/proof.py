"""The proof of a conversion: the converted folder, where this package is not installed, against the source itself."""

from pathlib import Path

import torch

from ..errors import InputError
from ..model_folder.clean_process import run_jobs
from . import reference
from .source import Source

AUTO_CLASSES = {
    "GPTScratchModel": "AutoModel",
    "GPTScratchForCausalLM": "AutoModelForCausalLM",
    "GPTScratchForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTScratchForTokenClassification": "AutoModelForTokenClassification",
}
TOLERANCE = 2e-5  # of the largest logit; fp32 sums in another order differ by a tenth of it


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
    job = {"auto_class": AUTO_CLASSES[source.architecture], "input_ids": ids.tolist()}
    [result], answers = run_jobs(folder, [job])
    if "error" in result:
        raise InputError(f"The converted model does not load where this package is not installed ({result['error']}).")
    answer = answers["answer.0"]
    difference = (answer - expected).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise InputError(
            f"The converted model's logits differ from the source's by {difference}; nothing was written."
        )
    reference_logits.write(folder, AUTO_CLASSES[source.architecture], ids, answer)
    return difference
