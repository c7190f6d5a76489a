"""
Whether a model's folder is fit to share, and loads for anyone, anywhere. What is here looks at its files; that they
load, `loading_check.py` tries in a clean process.
"""

import os
import re
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..configuration_gpt_scratch import GPTScratchConfig
from ..model_folder.code import require_own_code
from ..model_folder.contents import ADAPTER_CONFIG, ModelFolder
from ..tokenizer import load_tokenizer
from ..utils.errors import InputError, one_line
from .files import check_files, check_texts
from .findings import CheckFailed, Finding, find
from .loading_check import TEXTS, check_loading

OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".npz"}
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def check(folder: str | os.PathLike, trust_remote_code: bool = False) -> list[Finding]:
    """
    All findings about a folder of a model or an adapter, each with a `status` of "ok", "failed" or "skipped" and what
    there is to say. It is loaded in a clean process, where this package cannot be imported.

    Args:
        trust_remote_code: run the folder's code even where it is not this package's own.

    Raises:
        InputError: when it is neither.

    Example:
        >>> from hf_gpt_scratch import check
        >>> [finding.name for finding in check("runs/spam") if finding.status == "failed"]  # doctest: +SKIP
        []
    """
    if not any(Path(folder, name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        raise InputError(f"{folder} is no folder of a model or an adapter: it has no config.json or {ADAPTER_CONFIG}.")
    model = ModelFolder.read(folder)
    findings = look_at_files(model, trust_remote_code)
    for needed in ("weights", "code"):
        if any(finding.name == needed and finding.status == "failed" for finding in findings):
            return [*findings, Finding("loads", "skipped", f"it is tried when the {needed} check passes")]
    return findings + check_loading(model, trust_remote_code)


def look_at_files(model: ModelFolder, trust_remote_code: bool = False) -> list[Finding]:
    """The findings for which nothing need be loaded but the tokenizer."""
    config = None if model.is_adapter else model.config
    findings = [
        find("weights", lambda: check_weights(model)),
        find("files", lambda: check_files(model)),
        find("secrets and paths", lambda: check_texts(model)),
        find("tokenizer", lambda: check_tokenizer(model.path, config)),
        find("code", lambda: check_code(model, trust_remote_code)),
    ]
    if any("Classification" in name for name in model.architectures):
        findings.append(find("label names", lambda: check_labels(model.settings)))
    if "GPTScratchForCausalLM" in model.architectures:
        findings.append(find("generation config", lambda: check_generation_config(model.path, config)))
    return findings


def check_code(model: ModelFolder, trust_remote_code: bool = False) -> str:
    """Loading the folder runs no code but this package's own, or what the user trusts."""
    trusted = require_own_code(model, trust_remote_code)
    return f"trusted by you: {', '.join(trusted)}" if trusted else "this package's own, byte for byte"


def check_weights(model: ModelFolder) -> str:
    """Safetensors alone, whole, of finite numbers."""
    folder = model.path
    if other := sorted(path.name for path in folder.iterdir() if path.suffix in OTHER_WEIGHTS):
        raise CheckFailed(
            f"{', '.join(other)}: weights belong in safetensors, which run no code; save the model again by"
            " save_pretrained, which writes those, and move these away"
        )
    found, expected = {path.name for path in folder.glob("*.safetensors")}, model.weight_files
    if not found:
        raise CheckFailed("there is no *.safetensors; save the model again")
    if missing := {name for name in expected if not (folder / name).is_file()}:
        raise CheckFailed(f"{', '.join(sorted(missing))} is missing; save the model again")
    if stray := {path.name for path in folder.glob("*.safetensors*")} - expected:
        raise CheckFailed(f"{', '.join(sorted(stray))} is no part of the model; move it away")
    count = sum(_numbers_in(folder / name) for name in sorted(found))
    return f"{count:,} numbers in {len(found)} file{'s' if len(found) > 1 else ''} of safetensors"


def _numbers_in(path: Path) -> int:
    """How many numbers a file of weights has, each of which must be finite."""
    import torch
    from safetensors import SafetensorError, safe_open

    count = 0
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_tensor(key)
                count += tensor.numel()
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise CheckFailed(f"{key} in {path.name} holds NaN or infinity: the training went wrong")
    except (SafetensorError, OSError) as error:
        raise CheckFailed(f"{path.name} cannot be read ({one_line(error)}); save the model again") from None
    return count


def check_tokenizer(folder: Path, config: GPTScratchConfig | None) -> str:
    """It loads, gives back what it read, and has the vocabulary and special tokens of the model, if that is known."""
    try:
        tokenizer = load_tokenizer(folder)
    except (InputError, OSError, ValueError) as error:
        raise CheckFailed(f"{one_line(error)}; save it with tokenizer.save_pretrained") from None
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        back = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if back != text:
            raise CheckFailed(f"it makes {back!r} of {text!r}")
    if config is None:
        return f"{len(tokenizer):,} tokens, texts come back whole; not compared with the base model's vocabulary"
    _require_the_same_tokens(tokenizer, config)
    return f"{len(tokenizer):,} tokens, texts come back whole"


def _require_the_same_tokens(tokenizer: PreTrainedTokenizerBase, config: GPTScratchConfig) -> None:
    if (largest := max(tokenizer.get_vocab().values())) >= config.vocab_size:
        raise CheckFailed(f"it has token {largest}, and the model {config.vocab_size} of them")
    for key in SPECIAL:
        wanted, held = _ids(getattr(config, key)), getattr(tokenizer, key)
        is_needed = key == "eos_token_id"  # without it the model does not know where a text ends
        if held not in wanted if wanted and held is not None else is_needed and (wanted or held is not None):
            raise CheckFailed(f"its {key} is {held}, and that of config.json {getattr(config, key)}")


def _ids(value: int | list[int] | None) -> set[int]:
    return set() if value is None else set(value) if isinstance(value, list) else {value}


def check_labels(settings: dict) -> str:
    """Labels have names, and both tables agree."""
    names, numbers = settings.get("id2label") or {}, settings.get("label2id") or {}
    try:
        found = {int(number): name for number, name in names.items()}
        wanted = {int(number): name for name, number in numbers.items()}
        has_default = any(re.fullmatch(r"LABEL_\d+", name) for name in found.values())
    except (ValueError, TypeError, AttributeError):
        raise CheckFailed(
            "id2label and label2id in config.json must be tables of labels; save the model again"
        ) from None
    if not names or has_default:
        raise CheckFailed("the labels have no names; set id2label and label2id in config.json")
    if found != wanted:
        raise CheckFailed("id2label and label2id in config.json contradict each other")
    return ", ".join(found.values())


def check_generation_config(folder: Path, config: GPTScratchConfig) -> str:
    """It is there, ends a text where the model does, and can be saved again."""
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CheckFailed(f"it cannot be read ({str(error).splitlines()[0]}); save the model again") from None
    for key in SPECIAL:
        wanted, held = getattr(config, key), getattr(generation, key)
        if wanted is not None and _ids(held) != _ids(wanted):
            raise CheckFailed(f"its {key} is {held}, and that of config.json {wanted}; make them the same")
    try:
        generation.validate(strict=True)  # as when it is saved again, after a change
    except ValueError as error:
        raise CheckFailed(
            f"it contradicts itself, so that the model cannot be saved again ({one_line(error)})"
        ) from None
    if generation.eos_token_id is None:
        return "no EOS token, so that texts end at max_new_tokens"
    return f"ends at token {generation.eos_token_id}"
