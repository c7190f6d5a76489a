"""
The handler that `push --with-handler` lays beside a model, for Inference Endpoints: whether it can serve the model,
its files, and whose handler a folder or a repository holds.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from ..conversion.native import open_native
from ..faq.faq_file import is_faq_folder
from ..model_folder import reference_logits
from ..model_folder.code import RELEASED, package_code
from ..model_folder.contents import CODE_FILES, ModelFolder
from ..utils.errors import InputError, UsageError, one_line
from ..utils.provenance import sha256
from .findings import CheckFailed, compared
from .loading_check import compare_logits
from .repository import remote_file

HANDLER, REQUIREMENTS = "handler.py", "requirements.txt"
SERVED = ("GPTScratchForCausalLM", "GPTScratchForSequenceClassification")
PIPELINE = next(name for name in CODE_FILES if name.startswith("pipeline"))  # the handler of a classifier imports it


def own_files() -> dict[str, Path]:
    """This package's own files, by their names in a repository."""
    folder = Path(__file__).with_name("endpoint")
    return {HANDLER: folder / HANDLER, REQUIREMENTS: folder / REQUIREMENTS}


def handler_files() -> dict[str, Path]:
    """What a push lays beside the model: those, and the pipeline where the model's folder has none."""
    return {**own_files(), PIPELINE: package_code(PIPELINE)}


def is_own(path: Path) -> bool:
    """Whether a file is, byte for byte, this package's."""
    own = own_files().get(path.name)
    return own is not None and path.is_file() and sha256(path) in {sha256(own), *RELEASED}


def require_servable(model: ModelFolder) -> None:
    """Raises `UsageError` where no handler can answer for the model."""
    if is_faq_folder(model.path):
        raise UsageError(
            f"{model} is an FAQ bot, whose search needs this package, which no endpoint has: omit --with-handler, and"
            " serve it as a page, with `hf-gpt-scratch app chat`."
        )
    if model.architecture not in SERVED:
        raise UsageError(
            f"--with-handler is for language models and text classifiers, not for a {model.architecture}."
        )


def check_handler(model: ModelFolder, recorded: Mapping | None = None) -> str:
    """
    The model as the handler reads it gives the logits that were recorded.

    Args:
        recorded: the record of `reference_logits` where the folder has none.

    Raises:
        CheckFailed: when it does not, or has what GPT-2 lacks, such as a sliding window.
    """
    from .endpoint import handler

    if not (model.path / "tokenizer.json").is_file():
        raise CheckFailed("it reads tokenizer.json, which is missing: save the tokenizer with save_pretrained")
    whole = model.base_folder if model.is_adapter else model
    whole.require_native()
    try:
        open_native(whole.path, tuple(whole.architectures[:1]), "an endpoint's handler")
        read = handler.read_model(str(model.path)).eval()
    except InputError as error:
        raise CheckFailed(str(error)) from None
    except Exception as error:  # of safetensors, torch, a download, an adapter of another kind than LoRA
        raise CheckFailed(f"it cannot read {model} ({one_line(error)}): push without --with-handler") from None
    record = recorded or reference_logits.read(model.path)
    if record is None:
        raise CheckFailed(
            f"no logits of {model} are recorded to compare with: `hf-gpt-scratch check --record {model}`"
        )
    finding = compare_logits(_answer(read, record), record["logits"])
    if finding.status == "failed":
        raise CheckFailed(f"it would answer otherwise than the model ({finding.detail}): push without --with-handler")
    return f"as it reads the model, its logits {compared(finding.value)} those recorded"


@torch.inference_mode()
def _answer(read: torch.nn.Module, record: Mapping) -> list[list[float]]:
    """The logits after the last token, of the columns that were recorded."""
    ids = torch.tensor(record["input_ids"])  # (B, T)
    outputs = read(ids, attention_mask=torch.ones_like(ids))
    logits = outputs.logits if read.can_generate() else outputs.token_logits
    return logits[:, -1, record["columns"]].tolist()


def check_held(folder: Path) -> str:
    """Whose handler a folder holds; raises `CheckFailed` where it is not this package's."""
    if not is_own(folder / HANDLER):
        raise CheckFailed("another than this package's, which an endpoint of the repository would run: read it first")
    return "identical to this package's own"


def require_replaceable(repo_id: str, there: Iterable[str], branch: str | None) -> None:
    """Raises `InputError` when the repository has a handler or requirements that this package did not write."""
    for name in own_files():
        if name in there and not is_own(remote_file(repo_id, name, branch)):
            raise InputError(
                f"{repo_id} has a {name} that this package did not write: delete it there, or push without"
                " --with-handler."
            )
