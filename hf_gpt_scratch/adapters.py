"""LoRA adapters (PEFT): added to a model for training, and merged into the model they were trained on."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel

from . import modeling_gpt_scratch
from .conversion.tokenizers import copy_tokenizer
from .model_folder.contents import ADAPTED, ADAPTER_CONFIG, AUTO_CLASSES, ModelFolder, has_tokenizer, resolve_source
from .model_folder.loading import load_model
from .utils.errors import InputError, one_line
from .utils.files import read_json_object, scratch_folder
from .utils.requirements import BITSANDBYTES, PEFT, require_package

HEAD = re.compile(r"\bscore\.(modules_to_save\.\w+\.)?weight")  # the key of a classifier's head in an adapter
# Keys of an adapter whose merging adds to the embeddings or the head, and so to both where they are one matrix
CHANGES_TIED = re.compile(r"\b(wte|lm_head)\.lora_")


def require_peft() -> None:
    """
    Raises `InputError` unless PEFT is installed and works: beside an old torchao, such as Colab's, it ends with a
    traceback whenever it makes or loads an adapter.
    """
    require_package(*PEFT)
    try:
        from peft.import_utils import is_torchao_available
    except ImportError as error:
        raise InputError(
            f"peft {version('peft')} cannot be imported ({one_line(error)}): pip install -U peft transformers."
        ) from None
    try:
        is_torchao_available()
    except ImportError:
        raise InputError(
            f"peft {version('peft')} does not work with torchao {version('torchao')}, which is too old:"
            " pip uninstall -y torchao (or pip install -U torchao)."
        ) from None


def is_adapter_folder(path: str | os.PathLike | None) -> bool:
    """Whether `path` is a local folder that holds an adapter."""
    return path is not None and (Path(path) / ADAPTER_CONFIG).is_file()


def require_bitsandbytes() -> None:
    """Raises `InputError` unless bitsandbytes is installed and works here."""
    require_package(*BITSANDBYTES)
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # what its compiled libraries raise on a machine that they do not fit
        raise InputError(
            f"bitsandbytes does not work on this machine ({one_line(error)}): use --lora_r 16 without --qlora."
        ) from None


def four_bit(compute: torch.dtype):
    """QLoRA's quantization of the base model (Dettmers et al. 2023): NF4, twice, computing in `compute`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def add_lora(model: PreTrainedModel, rank: int, alpha: int, dropout: float, activation_checkpointing: bool):
    """The language model with a new adapter on every linear layer; only the adapter is trained (Hu et al. 2021)."""
    from peft import get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=activation_checkpointing)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # which PEFT asks for
        return get_peft_model(model, lora_settings(rank, alpha, dropout))


def lora_settings(rank: int, alpha: int, dropout: float):
    """PEFT's settings of a LoRA adapter on every linear layer of a language model."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=rank, lora_alpha=alpha, lora_dropout=dropout
    )


def base_of(adapter: str | os.PathLike, base: ModelFolder) -> tuple[str, dict]:
    """
    What the base model has to be loaded as for an adapter to fit: the name of its class, and keywords of `load_model`.
    The head of a classifier, of as many labels as it has, is in the adapter; their names are those of the base where
    it has as many.

    Raises:
        InputError: when PEFT is missing or does not work, or the adapter's weights cannot be read.
    """
    require_peft()
    from peft.utils import load_peft_weights

    task = read_json_object(Path(adapter) / ADAPTER_CONFIG).get("task_type")
    architecture = ADAPTED[task][0] if task in ADAPTED else (base.architectures or ["GPTScratchModel"])[0]
    if not architecture.endswith("Classification"):
        return architecture, {}
    try:
        heads = [len(value) for key, value in load_peft_weights(str(adapter), "cpu").items() if HEAD.search(key)]
    except Exception as error:  # PEFT's, safetensors' and torch's own
        raise InputError(f"The adapter in {adapter} cannot be read ({one_line(error)}).") from None
    settings: dict = {"new_head": True}
    named = base.settings.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    if heads and len(named) != heads[0]:
        names = [f"LABEL_{i}" for i in range(heads[0])]
        settings |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return architecture, settings


def merge_adapter(model: PreTrainedModel, adapter: str | os.PathLike) -> PreTrainedModel:
    """
    `model` with the weights of the adapter in the folder `adapter` added to its own, and with the generation settings
    there, if any; it is changed in place, and all of it can be trained. Where the adapter changes only one of the two
    uses of a tied matrix, as the embeddings or as the output head, they are separate afterwards.

    Raises:
        InputError: when PEFT is missing or does not work, or `adapter` is not a LoRA adapter that fits; or the merged
            model would not give the answers of the model with the adapter.
    """
    require_peft()
    from peft import get_peft_model_state_dict
    from peft.utils import load_peft_weights

    name = model.name_or_path
    try:
        model = _with_adapter(model, adapter)
        found, wanted = set(load_peft_weights(str(adapter), device="cpu")), set(get_peft_model_state_dict(model))
        if found != wanted:  # PEFT itself passes over them
            raise ValueError(f"keys that are missing or unknown: {', '.join(sorted(found ^ wanted))}")
        expected = _answer(model)
        if _is_tied(model.get_base_model()) and any(CHANGES_TIED.search(key) for key in found):
            if any("trainable_tokens" in key for key in found):
                raise ValueError("it changes both tokens and one use of a tied matrix; use it unmerged, with PEFT")
            base = model.unload()
            untie(base)
            model = _with_adapter(base, adapter)
        model = model.merge_and_unload()
        if _is_tied(model) and not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight):
            untie(model)  # one of the two was saved with the adapter
        if not getattr(model, "is_quantized", False):  # whose merged weights are rounded again
            _require_same(_answer(model), expected)
        if model.can_generate() and (Path(adapter) / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(adapter, local_files_only=True)
        for parameter in model.parameters():  # PEFT froze them
            parameter.requires_grad = parameter.is_floating_point()
        return model
    except InputError:
        raise
    except Exception as error:  # PEFT's, safetensors' and torch's own
        raise InputError(f"The adapter in {adapter} does not fit {name} ({one_line(error)}).") from None


def _with_adapter(model: PreTrainedModel, adapter: str | os.PathLike):
    """PEFT's model of the two, without its warning about tied matrices, which `merge_adapter` heeds."""
    from peft import PeftModel

    require_plain(adapter)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model (with|has) `tie_word_embeddings=True`")
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # which PEFT asks for
        return PeftModel.from_pretrained(model, str(adapter))


def require_plain(adapter: str | os.PathLike) -> None:
    """Raises `InputError` for an adapter whose settings have PEFT import a module, whatever it is."""
    if read_json_object(Path(adapter) / ADAPTER_CONFIG).get("megatron_config"):
        raise InputError(
            f"The adapter in {adapter} asks for code that is never run (megatron_config): delete that from its"
            f" {ADAPTER_CONFIG}."
        )


def _is_tied(model: PreTrainedModel) -> bool:
    return model.config.tie_word_embeddings and model.get_output_embeddings() is not None


def untie(model: PreTrainedModel) -> None:
    """Gives the output head a matrix of its own, with the values that it has, where it shared the embeddings'."""
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=False)


@torch.no_grad()
def _answer(model: torch.nn.Module) -> torch.Tensor:
    """The model's first output for some fixed tokens: of every part of its vocabulary, and its last positions too."""
    config = model.config
    length = min(config.n_positions, 64)
    ids = torch.linspace(0, config.vocab_size - 1, length, device=model.device).long()[None]
    return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]


def _require_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    difference = (found - expected).abs().max().item()
    if not difference <= 1e-4 * max(1.0, expected.abs().max().item()):
        raise ValueError(f"merged, it would change the model's logits by {difference:.1e}; use it unmerged, with PEFT")


@contextmanager
def merged_folder(source: str | os.PathLike, adapter: str | os.PathLike | None = None) -> Iterator[str | os.PathLike]:
    """
    Yields a whole model: a temporary folder with the weights of the adapter added to its base model's, or
    `source` itself where there is no adapter.

    Args:
        source: a folder or a Hub repository, of a model of this package, or of an adapter, which is merged into its
            own base model.
        adapter: the folder or the Hub repository of an adapter, to be merged into the model `source`.

    Raises:
        InputError: when PEFT is missing or does not work, the base is not a model of this package, or the adapter is
            not a LoRA adapter that fits it.
    """
    folder = ModelFolder.resolve(source)
    if adapter is None:
        if not folder.is_adapter:
            yield source
            return
        base, adapter, folder = folder.base, folder.path, folder.base_folder
    else:
        base, adapter = str(source), resolve_source(adapter)
    if not is_adapter_folder(adapter):
        raise InputError(f"{adapter} is not an adapter folder: it has no {ADAPTER_CONFIG}.")
    require_peft()
    folder.require_native()
    architecture, settings = base_of(adapter, folder)
    if architecture not in AUTO_CLASSES:
        raise InputError(f"{folder} names the architecture {architecture}, which this package does not have.")
    model = load_model(getattr(modeling_gpt_scratch, architecture), folder, **settings)
    model.name_or_path = base
    merged = merge_adapter(model, adapter)
    with scratch_folder() as scratch:
        path = scratch / folder.path.resolve().name
        merged.save_pretrained(path)
        own_tokenizer = has_tokenizer(adapter)
        copy_tokenizer(adapter if own_tokenizer else folder.path, path, model.config.n_positions)
        try:
            yield path
        except InputError as error:  # whose path says nothing to the user
            raise type(error)(str(error).replace(str(path), str(source))) from None
