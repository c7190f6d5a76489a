"""What a model's folder is: its files, its settings, whether it is an adapter, and of which model."""

import json
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download

from ..utils.errors import InputError
from ..utils.files import is_missing_folder, read_json

ADAPTER_CONFIG = "adapter_config.json"
# What makes up a model or an adapter, in names that only its files have: none of it holds for another one.
OF_THE_MODEL = (
    "config.json",
    "generation_config.json",
    ADAPTER_CONFIG,
    "model.safetensors",
    "model-[0-9]*-of-[0-9]*.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "configuration_gpt_scratch.py",
    "modeling_gpt_scratch.py",
    "chat_template.jinja",
    "reference_logits.json",
    *(f"plots/{name}.png" for name in ("training", "confusion_matrix", "precision_recall", "calibration")),
)
# What was found out about it, besides the result cards; none of it is ever pushed
RECORDS = ("metrics.json", "conversion.json")
AUTO_CLASSES = {
    "GPTScratchModel": "AutoModel",
    "GPTScratchForCausalLM": "AutoModelForCausalLM",
    "GPTScratchForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTScratchForTokenClassification": "AutoModelForTokenClassification",
}
# By PEFT's task: what an adapter is of, and what loads it
ADAPTED = {
    "CAUSAL_LM": ("GPTScratchForCausalLM", "AutoPeftModelForCausalLM"),
    "SEQ_CLS": ("GPTScratchForSequenceClassification", "AutoPeftModelForSequenceClassification"),
    "TOKEN_CLS": ("GPTScratchForTokenClassification", "AutoPeftModelForTokenClassification"),
}


def resolve_source(src: str) -> Path:
    """
    The local file or folder `src`; or the Hub repository `src`, its weights, configuration and tokenizer downloaded.

    Raises:
        InputError: when there is neither.
    """
    if Path(src).exists():
        return Path(src)
    if is_missing_folder(src):
        raise InputError(f"There is no file or folder {src}.")
    try:
        if constants.HF_HUB_OFFLINE:  # what was downloaded before
            return Path(snapshot_download(src, local_files_only=True))
        names = HfApi().list_repo_files(src)
        weights = "*.safetensors*" if any(name.endswith(".safetensors") for name in names) else "pytorch_model*"
        patterns = ["*.json", "*.txt", "*.py", weights]  # the code is not run here, but an adapter is loaded by it
        # Only the top folder: repositories keep conversions for other frameworks in sub-folders.
        return Path(snapshot_download(src, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except Exception as error:  # of the Hub, of its HTTP client, of the disk
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{src} is neither a folder nor a Hub repository that can be read ({reason}).") from None


def read_config(folder: Path, model_type: str | None = None) -> dict:
    """The settings in a folder's `config.json`; raises `InputError` when they are not a `model_type`'s, if given."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not folder.exists():
            raise InputError(f"There is no model folder {str(folder)!r}.") from None
        raise InputError(f"{folder} is not a model folder: it has no config.json.") from None
    except NotADirectoryError:
        raise InputError(f"{folder} is a file; expected a model folder.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder / 'config.json'} is not valid JSON ({error}).") from None
    if not isinstance(settings, dict):
        raise InputError(f"{folder / 'config.json'} holds no settings.")
    architectures = settings.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
    ):
        raise InputError(f"The architectures in {folder / 'config.json'} must be a list of names.")
    if model_type is not None and settings.get("model_type") != model_type:
        advice = (
            ": make it one of this package's first, by `hf-gpt-scratch convert`" if model_type == "gpt_scratch" else ""
        )
        raise InputError(
            f"{folder} holds a model of type {settings.get('model_type')!r}; expected {model_type!r}{advice}."
        )
    return settings


def base_of(adapter: Path) -> str:
    """
    The folder or Hub repository of the model that the adapter in this folder was trained on.

    Raises:
        InputError: when its adapter_config.json does not say.
    """
    try:
        base = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except FileNotFoundError:
        raise InputError(f"{adapter} is not an adapter folder: it has no {ADAPTER_CONFIG}.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        base = None
    if not (base and isinstance(base, str)):
        raise InputError(f"{adapter / ADAPTER_CONFIG} does not name the model that the adapter was trained on.")
    if (Path(base) / ADAPTER_CONFIG).exists():
        raise InputError(f"The adapter in {adapter} was trained on another adapter, {base}; merge that one first.")
    return base


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
