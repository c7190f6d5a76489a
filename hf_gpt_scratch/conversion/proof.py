"""The proof of a conversion: the converted folder, where this package is not installed, against the source itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import GPT2Config
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from ..model_folder import reference_logits
from ..model_folder.clean_process import run_jobs
from ..model_folder.contents import AUTO_CLASSES, read_config
from ..utils.errors import InputError
from ..utils.files import link_file, scratch_folder, write_json
from . import independent_forward
from .source import Source

SETS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
# The prefixes of compiled and distributed training, which transformers does not know
WRAPPERS = {r"^(_orig_mod\.|module\.)+": ""}


def prove(source: Source, folder: Path) -> float:
    """
    The greatest difference between the logits of the model in `folder`, loaded in a process that cannot import this
    package, and those of the source, both in fp32 on the same token ids.

    Where transformers has a class of its own for the source, that class loads it, in the same process: neither which
    files are read nor what is computed is then up to this package. Otherwise it is the source's own arithmetic on the
    tensors that were read; what the source does not hold (`Source.assumed`) enters both, and is not tested.

    Raises:
        InputError: when the folder does not load there, or the difference is more than rounding makes.
    """
    config = source.config
    generator = torch.Generator().manual_seed(0)
    length = min(max(32, 2 * source.arithmetic.window), config.n_positions)  # beyond a window, where there is one
    ids = torch.randint(config.vocab_size, (2, length), generator=generator)
    ids[0, 0] = config.vocab_size - 1
    job = {"auto_class": AUTO_CLASSES[source.architecture], "input_ids": ids.tolist()}
    with _without_code(source.stock) as stock:
        theirs = [{**job, "folder": str(stock), "key_mapping": WRAPPERS}] if stock else []
        [result, *theirs], answers = run_jobs(folder, [job, *theirs])
    if "error" in result:
        raise InputError(f"The converted model does not load where this package is not installed ({result['error']}).")
    answer = answers["answer.0"]
    if theirs and not any(theirs[0].get(kind) for kind in ("error", "missing", "mismatched")):
        expected = answers["answer.1"]
    else:
        expected = _by_arithmetic(source, ids)
    difference = (answer - expected).abs().max().item()
    if not difference <= reference_logits.TOLERANCE * max(1.0, expected.abs().max().item()):
        raise InputError(
            f"The converted model's logits differ from the source's by {difference}; nothing was written."
        )
    reference_logits.write(folder, AUTO_CLASSES[source.architecture], ids, answer)
    return difference


def _by_arithmetic(source: Source, ids: torch.Tensor) -> torch.Tensor:
    """The logits that the format's own arithmetic gives with the tensors that were read."""
    if source.stock:
        sets = [name for name in SETS if (source.stock / name).is_file()]
        if len(sets) > 1:  # which of them was read, the arithmetic cannot tell
            raise InputError(
                f"{source.stock} holds several sets of weights ({', '.join(sets)}), and transformers does not read it"
                " as it is, to tell which counts: delete all but one."
            )
    config = source.config
    expected = independent_forward.logits(
        source.originals or source.tensors,
        source.arithmetic,
        config.n_layer,
        config.n_head,
        config.layer_norm_epsilon,
        ids,
    )
    return expected[:, -1] if source.architecture == "GPTScratchForSequenceClassification" else expected


@contextmanager
def _without_code(stock: Path | None) -> Iterator[Path | None]:
    """
    Yields a folder for transformers' own class: links to the weights of `stock`, and of its configuration only what
    that class knows, and so nothing that names code.
    """
    if stock is None:
        yield None
        return
    with scratch_folder() as folder:
        for path in stock.iterdir():
            if path.is_file() and path.name.endswith((".safetensors", ".bin", ".index.json")):
                link_file(path, folder / path.name)
        known = {*GPT2Config().to_dict(), *GPT2Config.attribute_map, "num_labels", "transformers_weights"}
        settings = {name: value for name, value in read_config(stock).items() if name in known}
        # No token is padding, as the model would look for the last one that is not; none has this number.
        write_json(folder / "config.json", {**settings, "pad_token_id": -1})
        yield folder
