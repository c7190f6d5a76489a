"""
What a model's folder is. `ModelFolder` reads its settings once; all other code asks that object about the folder.
`MODEL_FILES` says which files make up a model: for uploads, downloads and checks.
"""

import glob
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.dynamic_module_utils import get_relative_imports

from ..configuration_gpt_scratch import GPTScratchConfig
from ..utils.constants import ONNX_ONLY, ONNX_RECORD
from ..utils.errors import InputError, damage_told, one_line, raise_if_starved
from ..utils.files import is_missing_folder, read_json, read_json_object, require_folder, require_present
from .settings_check import require_sizes, require_usable
from .weight_files import INDEX, USUAL, first_weights, only_weights, require_weights, shards_of, weights_among

# The code that travels with every model; the second imports the others. Folders of 0.1.0 have no third.
CODE_FILES = ("configuration_gpt_scratch.py", "modeling_gpt_scratch.py", "pipeline_gpt_scratch.py")
ADAPTER_CONFIG = "adapter_config.json"
FAQ_FILE = "faq.json"  # of a bot: the questions and answers, and when it refuses
SECONDS_TO_ANSWER = 10  # for the Hub
# A tokenizer's vocabulary: one of them, in whatever form it is saved (`vocab_files_names` of transformers' tokenizers)
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "tiktoken.model", "spiece.model", "spm.model"),
    *("sentencepiece.model", "sentencepiece.bpe.model", "spm_char.model"),
)
# What may lie beside the vocabulary
TOKENIZER_PARTS = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "bpe.codes"),
    *("emoji.json", "normalizer.json", "chat_template.jinja"),
)
# All that makes up a model or an adapter, but its code, which `ModelFolder.code_files` knows; first without weights
SMALL_FILES = (
    *("config.json", "generation_config.json", ADAPTER_CONFIG, FAQ_FILE, "reference_logits.json"),
    *(ONNX_RECORD, *TOKENIZER_FILES, *TOKENIZER_PARTS),
)
MODEL_FILES = (*SMALL_FILES, "*.safetensors", "*.safetensors.index.json")
COMPANIONS = (*SMALL_FILES, "meta.pkl")  # what may lie beside a file of weights: nanoGPT keeps its characters there
DOCUMENTS = ("README.md", "LICENSE", "plots/*.png")  # which go to the Hub with it
# Of these, the names that only a model of this package has: they go when another model takes the folder.
OF_THE_MODEL = (
    *("config.json", "generation_config.json", ADAPTER_CONFIG, FAQ_FILE, ONNX_RECORD, "onnx/model*.onnx*"),
    *("model.safetensors", "model-[0-9]*-of-[0-9]*.safetensors", "model.safetensors.index.json"),
    *("adapter_model.safetensors", *CODE_FILES, "chat_template.jinja", "reference_logits.json"),
    *(f"plots/{name}.png" for name in ("training", "confusion_matrix", "precision_recall", "calibration")),
)
# Records of how it was made, besides the result cards; never pushed
RECORDS = ("metrics.json", "conversion.json")
AUTO_CLASSES = {
    "GPTScratchModel": "AutoModel",
    "GPTScratchForCausalLM": "AutoModelForCausalLM",
    "GPTScratchForSequenceClassification": "AutoModelForSequenceClassification",
    "GPTScratchForTokenClassification": "AutoModelForTokenClassification",
}
ARCHITECTURES = {  # of stock GPT-2
    "GPT2Model": "GPTScratchModel",
    "GPT2LMHeadModel": "GPTScratchForCausalLM",
    "GPT2ForSequenceClassification": "GPTScratchForSequenceClassification",
    "GPT2ForTokenClassification": "GPTScratchForTokenClassification",
}
# By PEFT's task: the class of the adapter's model, and the Auto class that loads it
ADAPTED = {
    "CAUSAL_LM": ("GPTScratchForCausalLM", "AutoPeftModelForCausalLM"),
    "SEQ_CLS": ("GPTScratchForSequenceClassification", "AutoPeftModelForSequenceClassification"),
    "TOKEN_CLS": ("GPTScratchForTokenClassification", "AutoPeftModelForTokenClassification"),
}


@dataclass(frozen=True)
class ModelFolder:
    """
    A folder of a model or an adapter, its settings read.

    Attributes:
        settings: what config.json holds; `{}` for an adapter.
        adapter: what adapter_config.json holds; `None` for a whole model.
    """

    path: Path
    settings: dict
    adapter: dict | None = None

    @classmethod
    def resolve(cls, source: str | os.PathLike) -> "ModelFolder":
        """
        The folder at the path `source`, or else the Hub repository of that name, which is downloaded. A `ModelFolder`
        is neither resolved nor read again.

        Raises:
            InputError: when there is neither, or it is not the folder of a model or an adapter.
        """
        return source if isinstance(source, ModelFolder) else cls.read(resolve_source(source))

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "ModelFolder":
        """
        The local folder at that path; nothing is ever downloaded. A `ModelFolder` is not read again.

        Raises:
            InputError: when there is none, or it is not the folder of a model or an adapter.
        """
        if isinstance(folder, ModelFolder):
            return folder
        path = Path(folder)
        if (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").is_file():
            return cls(path, {}, read_json_object(path / ADAPTER_CONFIG))
        return cls(path, read_config(path))

    def with_base(self, base: str) -> "ModelFolder":
        """The same adapter as one of another base model; the files stay as they are."""
        return replace(self, adapter=self.adapter | {"base_model_name_or_path": base})

    def __fspath__(self) -> str:
        return str(self.path)

    __str__ = __fspath__

    @property
    def is_adapter(self) -> bool:
        return self.adapter is not None

    @property
    def is_native(self) -> bool:
        """Whether it holds a whole model in this package's own format, not an adapter, a stock GPT-2 or another."""
        return self.settings.get("model_type") == GPTScratchConfig.model_type

    def require_native(self) -> None:
        """Raises `InputError` unless it `is_native`."""
        _require_type(
            read_config(self.path) if self.is_adapter else self.settings, GPTScratchConfig.model_type, self.path
        )

    @property
    def architectures(self) -> list[str]:
        return self.settings.get("architectures") or []

    @property
    def architecture(self) -> str:
        """The class of the model, or of the one that the adapter is for; raises `InputError` when it is not ours."""
        return self._classes[0]

    @property
    def auto_class(self) -> str:
        """The Auto class of transformers or PEFT that loads it; raises `InputError` when there is none."""
        return self._classes[1]

    @cached_property
    def _classes(self) -> tuple[str, str]:
        if self.is_adapter:
            if not isinstance(task := self.adapter.get("task_type"), str) or task not in ADAPTED:
                raise InputError(f"The adapter in {self} is of the task {task!r}; expected {' or '.join(ADAPTED)}.")
            return ADAPTED[task]
        name = (self.architectures or [None])[0]
        if name not in AUTO_CLASSES:
            raise InputError(f"{self} holds a {name}; expected one of {', '.join(AUTO_CLASSES)}.")
        return name, AUTO_CLASSES[name]

    @property
    def base(self) -> str:
        """
        The folder or Hub repository of the model that the adapter was trained on.

        Raises:
            InputError: when adapter_config.json does not say, or names another adapter.
        """
        base = self.adapter.get("base_model_name_or_path")
        if not (base and isinstance(base, str)):
            raise InputError(f"{self.path / ADAPTER_CONFIG} does not name the model that the adapter was trained on.")
        if os.path.exists(os.path.join(base, ADAPTER_CONFIG)):
            raise InputError(f"The adapter in {self} was trained on another adapter, {base}; merge that one first.")
        return base

    @cached_property
    def base_folder(self) -> "ModelFolder":
        """The folder of `base`, downloaded where it is a repository; raises as `base` and `resolve`."""
        return ModelFolder.resolve(self.base)

    @cached_property
    def config(self) -> GPTScratchConfig:
        """Its configuration, with the defaults of what config.json omits; raises `InputError` for a damaged one."""
        self.require_native()
        require_sizes(self.settings, self.path / "config.json")
        with damage_told(f"{self.path / 'config.json'} is not the configuration of a model ({{}})."):
            config = GPTScratchConfig(**self.settings)
            require_usable(config, self.path)
            return config

    @property
    def weight_files(self) -> set[str]:
        """The names of the files that `from_pretrained` would read; raises `InputError` for a damaged index."""
        whole = "adapter_model.safetensors" if self.is_adapter else "model.safetensors"
        names = {path.name for path in self.path.iterdir()}
        first = first_weights(names, self.settings.get("transformers_weights"), (whole, whole + INDEX)) or whole
        if not first.endswith(INDEX):
            return {first}
        try:
            shards = shards_of(self.path / first)
        except InputError:
            shards = [""]
        if not all(name.endswith(".safetensors") for name in shards):
            raise InputError(f"{first} is damaged: save the model again.")
        return {first, *shards}

    @property
    def auto_map(self) -> dict:
        auto_map = self.settings.get("auto_map")
        return auto_map if isinstance(auto_map, dict) else {}

    @property
    def code_elsewhere(self) -> dict:
        """What of auto_map is not in a file beside config.json."""
        return {name: one for name, one in self.auto_map.items() if not _is_beside(one)}

    @property
    def code_files(self) -> set[str]:
        """The names of the files of code that auto_map promises beside config.json, and of those that they import."""
        modules = {one.partition(".")[0] for one in self.auto_map.values() if _is_beside(one)}
        named = {f"{module}.py" for module in modules} | ({CODE_FILES[0]} if modules else set())
        held = [self.path / name for name in named if (self.path / name).is_file()]
        return named | {f"{module}.py" for path in held for module in _imports_beside(path)}

    def files(self) -> list[Path]:
        """
        The files that belong in a repository: the model's, its code and its documents, but no weights that
        `from_pretrained` would not read. Raises `InputError` for a damaged index.
        """
        patterns, weights = [*MODEL_FILES, *DOCUMENTS, *self.code_files], self.weight_files
        found = {path for pattern in patterns for path in self.path.glob(pattern) if path.is_file()}
        return sorted(path for path in found if ".safetensors" not in path.name or path.name in weights)


def _is_beside(reference) -> bool:
    return isinstance(reference, str) and re.fullmatch(r"\w+\.\w+", reference) is not None


def _imports_beside(path: Path) -> list[str]:
    """
    The modules that a file of code imports from beside it. No path, which could be one outside of the folder; none
    of a file that is not UTF-8, which a check refuses.
    """
    try:
        return [name for name in get_relative_imports(path) if re.fullmatch(r"[\w.]+", name)]
    except UnicodeDecodeError:
        return []


def has_tokenizer(folder: Path | os.PathLike) -> bool:
    """Whether a tokenizer is saved there, in any form."""
    return any(Path(folder, name).is_file() for name in TOKENIZER_FILES)


def is_hub_id(name: str | None) -> bool:
    """Whether it can be a repository of the Hub, of the form owner/name, and is not a folder here."""
    if not name or name.count("/") != 1 or os.path.exists(name) or is_missing_folder(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def resolve_source(src: str | os.PathLike, weights: bool = True, file: str | None = None) -> Path:
    """
    The local file or folder `src`; or the Hub repository `src`, its weights, configuration and tokenizer downloaded,
    but none of its code. Of several sets of weights only the one that transformers reads is downloaded. Without a
    network, the copy of an earlier download is taken.

    Args:
        weights: whether they are downloaded too.
        file: the repository's file of weights, or their index, to download with what lies beside it; by default the
            one with the usual name, or the only one, or an adapter's.

    Raises:
        InputError: when there is neither; when a repository has no such file, or several and none of the usual name.
    """
    if os.path.exists(src):
        return Path(src)
    require_present(src)
    src, patterns = str(src), [*MODEL_FILES] if weights else [*SMALL_FILES]
    try:
        if constants.HF_HUB_OFFLINE:
            return Path(snapshot_download(src, local_files_only=True, allow_patterns=patterns))
        try:  # one request: the client repeats others, such as that for a list of files, for half a minute
            names = [file.rfilename for file in HfApi().model_info(src, timeout=SECONDS_TO_ANSWER).siblings]
        except HfHubHTTPError:
            raise
        except Exception:  # of the HTTP client, whose package depends on the version
            if downloaded := _downloaded(src, patterns):
                return downloaded
            raise
        if weights:
            patterns = _files_to_download(src, names, file)
        return Path(snapshot_download(src, allow_patterns=patterns))
    except InputError:
        raise
    except Exception as error:  # of the Hub, of its HTTP client, of the disk
        raise_if_starved(error, constants.HF_HUB_CACHE)
        raise InputError(_why_not(src, error)) from None


def _files_to_download(src: str, names: Collection[str], file: str | None) -> list[str]:
    """The patterns of those of a repository's files that make up one model; raises as `resolve_source`."""
    if ONNX_RECORD in names:
        return [*SMALL_FILES, "onnx/*"]
    held = weights_among(names)
    if file is not None:
        require_weights(file, held, src)
    wanted = file or (first_weights(names, order=USUAL) if "config.json" in names else None)
    patterns = [*SMALL_FILES, "adapter_model*.safetensors*"]
    if ADAPTER_CONFIG not in names:
        wanted = wanted or only_weights(held, src)
    elif not any(name.startswith("adapter_model") and ".safetensors" in name for name in names):
        patterns.append("adapter_model.bin")
    if wanted is None:
        return patterns
    beside = wanted.rpartition("/")[0]
    small = (name for name in names if name.rpartition("/")[0] == beside and Path(name).name in COMPANIONS)
    patterns += [glob.escape(name) for name in (wanted, *small)]
    if wanted.endswith(INDEX):
        index = Path(snapshot_download(src, allow_patterns=[glob.escape(wanted)]), wanted)
        patterns += [glob.escape(f"{beside}/{shard}".lstrip("/")) for shard in shards_of(index)]
    return patterns


def _downloaded(name: str, patterns: list[str]) -> Path | None:
    """The copy of a repository that an earlier download of those files left."""
    try:
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _why_not(name: str, error: Exception) -> str:
    """Why there is neither a folder nor a repository `name`, and what to do."""
    if isinstance(error, HFValidationError):
        return f"There is no file or folder {name!r} (a Hub repository has the form owner/name)."
    neither = f"{name} is neither a folder here nor"
    if constants.HF_HUB_OFFLINE:
        return f"{neither} a repository downloaded before, and HF_HUB_OFFLINE=1 forbids downloads."
    if isinstance(error, GatedRepoError):
        return f"{name} is a gated repository: ask for access at https://huggingface.co/{name}, then `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return f"{neither} a public repository on the Hub; for a private one, log in with `hf auth login`."
    if isinstance(error, HfHubHTTPError):
        return f"{name} could not be downloaded from the Hub ({one_line(error)}); try again later."
    return (
        f"{name} is not a folder here, and could not be downloaded from the Hub (no network? {one_line(error)}): check"
        " the connection, or give a local folder."
    )


def read_config(folder: Path, model_type: str | None = None) -> dict:
    """The settings in a folder's `config.json`; raises `InputError` unless they are of `model_type`, if given."""
    path = folder / "config.json"
    require_folder(folder, "model folder")
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: it has no config.json.")
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise InputError(f"{path} does not hold a JSON object; save the model again.")
    architectures = settings.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
    ):
        raise InputError(f"The architectures in {path} must be a list of names.")
    if model_type is not None:
        _require_type(settings, model_type, folder)
    return settings


def _require_type(settings: dict, model_type: str, folder: Path) -> None:
    """Raises `InputError` unless the settings of a folder's config.json are of that `model_type`."""
    if settings.get("model_type") == model_type:
        return
    if (folder / ONNX_RECORD).is_file():
        raise InputError(ONNX_ONLY.format(folder))
    advice = "; convert it first with `hf-gpt-scratch convert`" if model_type == "gpt_scratch" else ""
    raise InputError(
        f"{folder} holds a model of type {settings.get('model_type')!r}; expected {model_type!r}{advice}."
    )
