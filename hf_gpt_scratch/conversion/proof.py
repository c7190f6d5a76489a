"""The proof of a conversion: the converted folder, where this package is not installed, against the source itself."""

from pathlib import Path

import torch

from ..model_folder import reference_logits
from ..model_folder.clean_process import run_jobs
from ..model_folder.contents import AUTO_CLASSES
from ..utils.errors import InputError
from . import independent_forward
from .source import Source


def prove(source: Source, folder: Path) -> float:
    """
    The greatest difference between the logits of the model in `folder`, loaded in a process that cannot import this
    package, and those of the source's own arithmetic, both in fp32 on the same token ids. What the source does not
    hold (`Source.assumed`) enters both, and is not tested.

    Raises:
        InputError: when the folder does not load there, or the difference is more than rounding makes.
    """
    config = source.config
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (2, min(32, config.n_positions)), generator=generator)
    ids[0, 0] = config.vocab_size - 1
    expected = independent_forward.logits(
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
    if not difference <= reference_logits.TOLERANCE * max(1.0, expected.abs().max().item()):
        raise InputError(
            f"The converted model's logits differ from the source's by {difference}; nothing was written."
        )
    reference_logits.write(folder, AUTO_CLASSES[source.architecture], ids, answer)
    return difference
