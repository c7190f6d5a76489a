"""
Whether a model's folder is fit to share, and loads for anyone, anywhere. This module looks at its files;
`loading_check.py` loads them in a clean process.
"""

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import PreTrainedTokenizerBase

from ..configuration_gpt_scratch import GPTScratchConfig
from ..model_folder.code import differences, require_own_code
from ..model_folder.contents import ADAPTER_CONFIG, DOCUMENTS, MODEL_FILES, ModelFolder, has_tokenizer, is_hub_id
from ..model_folder.onnx_files import is_onnx_folder
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError, UsageError, one_line, raise_if_starved
from ..utils.files import scratch_folder
from ..utils.special_tokens import token_ids
from .files import check_files, check_texts
from .findings import CheckFailed, Finding, find
from .handler import HANDLER, check_held
from .loading_check import TEXTS, check_loading

PICKLED = ("pytorch_model*.bin", "adapter_model*.bin")  # weights as older versions saved them
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def check(folder: str | os.PathLike, trust_remote_code: bool = False, base_model: str | None = None) -> list[Finding]:
    """
    All findings about a folder of a model or an adapter, each with a `status` of "ok", "failed" or "skipped" and the
    details. It is loaded in a clean process, where this package cannot be imported.

    Args:
        trust_remote_code: run the folder's code even where it is not this package's own.
        base_model: the Hub repository of the adapter's base model, where the adapter was trained on a folder.

    Raises:
        InputError: when the folder holds neither.
        UsageError: for a `base_model` of a whole model, or one that is not a repository.

    Examples:
        >>> from hf_gpt_scratch import check
        >>> [finding.name for finding in check("runs/spam") if finding.status == "failed"]  # doctest: +SKIP
        []
    """
    return check_model(open_folder(folder, base_model), trust_remote_code)


def check_source(source: str, trust_remote_code: bool = False, base_model: str | None = None) -> list[Finding]:
    """What `check` returns, of a folder or else of a Hub repository; no message has the name of the latter's copy."""
    if not is_hub_id(source):
        return check(source, trust_remote_code, base_model)
    with copy_of_repository(source) as copy:
        try:
            findings = check_model(open_folder(copy, base_model), trust_remote_code, repository=source)
        except InputError as error:
            raise type(error)(str(error).replace(str(copy), source)) from None
        return [replace(one, detail=one.detail.replace(str(copy), source)) for one in findings]


@contextmanager
def copy_of_repository(source: str) -> Iterator[Path]:
    """Yields a copy of the Hub repository, its code included."""
    with scratch_folder() as scratch:
        copy, patterns = Path(scratch, source.split("/")[1]), [*MODEL_FILES, *DOCUMENTS, "*.py"]
        try:
            # A * also matches the / of a folder, such as checkpoint-9/: those of `patterns` are of the top folder.
            in_folders = [pattern for pattern in patterns if "/" in pattern]
            at_the_top = [pattern for pattern in patterns if "/" not in pattern]
            snapshot_download(source, local_dir=copy, allow_patterns=at_the_top, ignore_patterns=["*/*"])
            snapshot_download(source, local_dir=copy, allow_patterns=in_folders)
        except Exception as error:  # of the Hub, of its HTTP client, of the disk
            raise_if_starved(error, copy)
            raise InputError(
                f"{source} is neither a folder nor a Hub repository that can be read ({one_line(error)})."
            ) from None
        shutil.rmtree(copy / ".cache", ignore_errors=True)  # of the download
        yield copy


def open_folder(folder: str | os.PathLike, base_model: str | None = None) -> ModelFolder:
    """The folder of a model, or of an adapter as one of `base_model`; raises as `check`."""
    path = Path(folder)
    if not path.exists():
        raise InputError(f"{path}: there is no such folder; give the folder that the model was saved in.")
    if not any((path / name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        checkpoints = sorted(path.glob("checkpoint-*"), key=lambda one: (len(one.name), one.name))
        advice = f"use its last checkpoint, {checkpoints[-1]}" if checkpoints else "save a model there first"
        raise InputError(
            f"{path} is not the folder of a model or an adapter: it has neither config.json nor {ADAPTER_CONFIG};"
            f" {advice}."
        )
    if is_onnx_folder(path):
        raise InputError(
            f"{path} is an ONNX folder: push the model that it was made from with --with-onnx, or upload the folder"
            f" as it is with `hf upload OWNER/NAME {shlex.quote(str(path))}`."
        )
    model = ModelFolder.read(folder)
    if base_model is None:
        return model
    if not model.is_adapter:
        raise UsageError(f"--base-model is for adapters, and {path} holds a whole model: omit it.")
    if not is_hub_id(base_model):
        raise UsageError(f"--base-model takes a Hub repository, such as you/base, not {base_model!r}.")
    return model.with_base(base_model)


def check_model(
    model: ModelFolder,
    trust_remote_code: bool = False,
    reference: Mapping | None = None,
    repository: str | None = None,
) -> list[Finding]:
    """
    What `check` returns.

    Args:
        reference: the record of `reference_logits` where the folder itself has none.
        repository: the one on the Hub that the folder is a copy of, which the advice then is for.
    """
    findings = look_at_files(model, trust_remote_code, repository)
    failed = {finding.name for finding in findings if finding.status == "failed"}
    for needed in ("weights", "code"):
        if needed in failed:
            return [*findings, Finding("loads", "skipped", f"not tried, as the {needed} check failed")]
    return findings + check_loading(model, trust_remote_code, reference, "tokenizer" not in failed, repository)


def look_at_files(model: ModelFolder, trust_remote_code: bool = False, repository: str | None = None) -> list[Finding]:
    """The findings that need nothing loaded but the tokenizer."""
    config = None if model.is_adapter else model.config
    findings = [
        find("weights", lambda: check_weights(model)),
        find("files", lambda: check_files(model)),
        find("secrets and paths", lambda: check_texts(model)),
        find("tokenizer", lambda: check_tokenizer(model.path, config, repository)),
        replace(find("code", lambda: check_code(model, trust_remote_code)), more=_differences(model)),
    ]
    if any("Classification" in name for name in model.architectures):
        findings.append(find("label names", lambda: check_labels(model.settings)))
    if (model.path / HANDLER).is_file():
        held = find("endpoint handler", lambda: check_held(model.path))
        findings.append(held if held.status == "ok" else replace(held, status="skipped"))  # it is never run here
    if "GPTScratchForCausalLM" in model.architectures:
        findings.append(find("generation config", lambda: check_generation_config(model.path, config)))
    return findings


def check_code(model: ModelFolder, trust_remote_code: bool = False) -> str:
    """Loading the folder runs only this package's own code, or code that the user trusts."""
    trusted = require_own_code(model, trust_remote_code)
    if trusted:
        return f"trusted by you: {', '.join(trusted)}"
    return "none; that of the base model is used" if model.is_adapter else "identical to this package's own"


def _differences(model: ModelFolder) -> str:
    try:
        return differences(model)
    except InputError:  # of a file of settings, which the check tells
        return ""


def check_weights(model: ModelFolder) -> str:
    """In safetensors, complete, all of them finite."""
    folder, expected = model.path, model.weight_files
    if not model.is_adapter and (folder / ADAPTER_CONFIG).is_file():
        raise CheckFailed(
            f"the folder holds both a model and an adapter, and loaders would mix them up: move {ADAPTER_CONFIG} and"
            " adapter_model.safetensors to a folder of their own"
        )
    if missing := sorted(name for name in expected if not (folder / name).is_file()):
        pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
        if pickled and not any(folder.glob("*.safetensors")):
            raise CheckFailed(
                f"they are in {', '.join(pickled)}, a format that can run code when it is loaded: load the model"
                " and save it again with save_pretrained, which writes safetensors"
            )
        raise CheckFailed(f"{', '.join(missing)} is missing: save the model again")
    shards = sorted(name for name in expected if name.endswith(".safetensors"))
    count = sum(_numbers_in(folder / name) for name in shards)
    files = "1 file" if len(shards) == 1 else f"{len(shards)} files"
    return f"{count:,} parameters in {files}, all finite"


def _numbers_in(path: Path) -> int:
    """How many parameters a file of weights has, each of which must be finite."""
    import torch
    from safetensors import SafetensorError, safe_open

    count = 0
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_tensor(key)
                count += tensor.numel()
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise CheckFailed(f"{key} in {path.name} holds NaN or infinity: the training diverged")
    except (SafetensorError, OSError) as error:
        raise CheckFailed(f"{path.name} cannot be read ({one_line(error)}): save the model again") from None
    return count


def check_tokenizer(folder: Path, config: GPTScratchConfig | None, repository: str | None = None) -> str:
    """It loads, decodes what it encodes, and has the vocabulary and special tokens of the model, if that is known."""
    if not has_tokenizer(folder):
        if repository:
            raise CheckFailed(
                "there is none in the repository: save it in the model's folder with tokenizer.save_pretrained, then"
                f" `hf-gpt-scratch push FOLDER {repository}`"
            )
        raise CheckFailed(
            f"there is none in the folder: save it there with tokenizer.save_pretrained({str(folder)!r}), or give"
            " Trainer processing_class=tokenizer, with which it saves the tokenizer too"
        )
    try:
        tokenizer = load_tokenizer(folder)
    except (InputError, OSError, ValueError) as error:
        raise CheckFailed(f"{one_line(error)}: save it again with tokenizer.save_pretrained") from None
    is_classifier = any("Classification" in name for name in (config and config.architectures) or ())
    found = f"{len(tokenizer):,} tokens; {_decoding(tokenizer, is_classifier)}"
    if config is None:
        return f"{found}; not compared with the base model's vocabulary"
    _require_the_same_tokens(tokenizer, config)
    return found


def _decoding(tokenizer: PreTrainedTokenizerBase, is_classifier: bool) -> str:
    """
    Whether it decodes what it encodes; one of bytes must, others, such as BERT's, lack characters. That of a
    classifier, which writes nothing, may lose what its normalizer takes, such as upper case.
    """
    is_of_bytes = tokenizer.is_fast and '"ByteLevel"' in tokenizer.backend_tokenizer.to_str()
    normalizer = tokenizer.backend_tokenizer.normalizer if is_of_bytes and is_classifier else None
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if back != (normalizer.normalize_str(text) if normalizer else text):
            if not is_of_bytes:
                return "not of bytes, so decoding does not restore every text"
            raise CheckFailed(f"it decodes the tokens of {text!r} to {back!r}: train or save it again")
    return "decoding restores the text"


def _require_the_same_tokens(tokenizer: PreTrainedTokenizerBase, config: GPTScratchConfig) -> None:
    if (largest := max(tokenizer.get_vocab().values())) >= config.vocab_size:
        raise CheckFailed(
            f"it has a token {largest}, and the model's vocabulary only {config.vocab_size} tokens: save the tokenizer"
            " that the model was trained with"
        )
    for key in SPECIAL:
        wanted, held = _ids(getattr(config, key)), getattr(tokenizer, key)
        is_needed = key == "eos_token_id"  # without it the model does not know where a text ends
        if held not in wanted if wanted and held is not None else is_needed and (wanted or held is not None):
            raise CheckFailed(
                f"its {key} is {held}, and that in config.json {getattr(config, key)}: make them the same"
            )


def _ids(value: int | list[int] | None) -> set[int]:
    ids = token_ids(value)
    if not all(type(one) is int for one in ids):
        raise CheckFailed(
            f"{str(value)[:30]!r} is no number of a special token: save the model and its tokenizer again"
        )
    return set(ids)


def check_labels(settings: dict) -> str:
    """Labels have names, and both tables agree."""
    names, numbers = settings.get("id2label") or {}, settings.get("label2id") or {}
    try:
        found = {int(number): name for number, name in names.items()}
        wanted = {int(number): name for name, number in numbers.items()}
        has_default = any(re.fullmatch(r"LABEL_\d+", name) for name in found.values())
    except (ValueError, TypeError, AttributeError):
        raise CheckFailed(
            "id2label and label2id in config.json must be tables of labels: save the model again"
        ) from None
    if not names or has_default:
        raise CheckFailed("the labels have no names: set id2label and label2id in config.json")
    if found != wanted:
        raise CheckFailed("id2label and label2id in config.json contradict each other: correct one of them")
    return ", ".join(found.values())


def check_generation_config(folder: Path, config: GPTScratchConfig) -> str:
    """It is there, has the model's special tokens, and can be saved again."""
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckFailed(f"it cannot be read ({str(error).splitlines()[0]}): save the model again") from None
    for key in SPECIAL:
        wanted, held = getattr(config, key), getattr(generation, key)
        # More tokens than config.json has may end a text: `generate` reads this file.
        is_same = _ids(wanted) <= _ids(held) if key == "eos_token_id" else _ids(held) == _ids(wanted)
        if wanted is not None and not is_same:
            raise CheckFailed(f"its {key} is {held}, and that in config.json {wanted}: make them the same")
    try:
        generation.validate(strict=True)  # as when it is saved again, after a change
    except ValueError as error:
        raise CheckFailed(
            f"it contradicts itself, so the model could not be saved again ({one_line(error)}): correct"
            " generation_config.json"
        ) from None
    if generation.eos_token_id is None:
        return "no EOS token, so texts end at max_new_tokens"
    return f"stops at token {generation.eos_token_id}"
