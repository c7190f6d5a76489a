"""
Loading models from folders and repositories: ours as they are, a stock GPT-2 converted on the way, an adapter merged
into its base model; and the device and the precision that they run in.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import modeling_gpt_scratch
from .adapters import base_of, merge_adapter, require_peft
from .conversion.convert import convert
from .conversion.hf_gpt2 import ARCHITECTURES
from .model_folder import reference_logits
from .model_folder.contents import ADAPTED, AUTO_CLASSES, ModelFolder
from .model_folder.loading import load_model
from .model_folder.onnx_files import is_onnx_folder, require_no_onnx
from .modeling_gpt_scratch import GPTScratchPreTrainedModel
from .onnx_models.model import load_onnx
from .tokenizer import load_tokenizer
from .utils import int8
from .utils.constants import DTYPES, PRECISIONS
from .utils.errors import InputError
from .utils.files import scratch_folder, write_json
from .utils.special_tokens import learn_to_end
from .utils.weight_layout import lay_out_by_input

INT8_WIDTH = 256  # n_embd from which int8 is advised: 1.7 times as fast there, 3 times at 768, and slower at 128


def load_pretrained(
    model_class: type[GPTScratchPreTrainedModel],
    name_or_path: str | os.PathLike,
    new_head: bool = False,
    quantization=None,
    **config_settings,
) -> GPTScratchPreTrainedModel:
    """
    Loads a local folder or a Hub repository as `model_class`: of this package, of stock GPT-2, or of a LoRA adapter,
    whose base model is loaded too and the adapter merged into it. The arguments and errors are those of `load_model`;
    the model's `name_or_path` is the one given.
    """
    folder = ModelFolder.resolve(name_or_path)
    require_no_onnx(folder)
    arguments = {"new_head": new_head, "quantization": quantization, **config_settings}
    if folder.is_adapter:
        model = _load_merged(model_class, folder, **arguments)
    elif folder.is_native:
        model = load_model(model_class, folder, **arguments)
    else:
        with scratch_folder() as converted:
            ours = convert(str(folder), converted / "model", tokenizer="none").folder
            model = load_model(model_class, ours, **arguments)
        # As its own file says: the conversion made it agree with the generation config, before a tokenizer was known.
        model.config.eos_token_id = folder.settings.get("eos_token_id", model.config.eos_token_id)
    model.name_or_path = str(name_or_path)
    return model


def _load_merged(
    model_class: type[GPTScratchPreTrainedModel], adapter: ModelFolder, new_head: bool, quantization, **settings
) -> GPTScratchPreTrainedModel:
    """
    The base model with the adapter merged into it, in full precision and with the head that the adapter is for; what
    is to be another class, with another head or quantized, is loaded from that.
    """
    require_peft()
    try:
        base_folder = adapter.base_folder
        architecture, of_base = base_of(adapter.path, base_folder)
    except InputError as error:
        raise InputError(f"The base model of the adapter {adapter} cannot be loaded: {error}") from None
    is_changed = architecture != model_class.__name__ or quantization is not None or "id2label" in settings
    base_class = getattr(modeling_gpt_scratch, architecture, model_class)
    try:
        base = load_pretrained(base_class, base_folder, **({} if is_changed else settings) | of_base)
        base.name_or_path = adapter.base
    except InputError as error:
        raise InputError(f"The base model of the adapter {adapter} cannot be loaded: {error}") from None
    merged = merge_adapter(base, adapter.path)
    if not is_changed:
        return merged
    with scratch_folder() as folder:
        merged.save_pretrained(folder)
        try:
            return load_model(model_class, folder, new_head, quantization, **settings)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(adapter))) from None


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """
    The device of that name, such as "cuda:1"; "auto" is CUDA where there is one, then MPS, then the CPU.

    Raises:
        InputError: when it is unknown or not available here.
    """
    cuda_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda_devices else "mps" if has_mps else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"Unknown device {device!r}; expected auto, cuda, cuda:1, mps or cpu.") from None
    if chosen.type == "cuda" and not cuda_devices:
        raise InputError(
            "CUDA is not available: no NVIDIA GPU was found, or PyTorch was installed without CUDA; use --device cpu."
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= cuda_devices:
        raise InputError(f"There is no {chosen}; the last CUDA device is cuda:{cuda_devices - 1}.")
    if chosen.type == "mps" and not has_mps:
        raise InputError("MPS is not available: it needs a Mac with Apple silicon; use --device cpu.")
    return chosen


def resolve_dtype(dtype: str | torch.dtype, device: torch.device, saved: str | None = None) -> torch.dtype:
    """
    The data type of that name, such as "bf16" or "bfloat16". "auto" is the one in which the model was `saved`, with
    float16 in place of bfloat16 on GPUs that only emulate it (compute capability below 8), and always float32 on the
    CPU, for the same numbers on each; one saved in another type, such as float64, runs in float32.

    Raises:
        InputError: when it is unknown, or int8 and the device is not the CPU.
    """
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype == "auto":
        name = saved if saved in DTYPES and device.type != "cpu" else "float32"
        if name == "bfloat16" and device.type == "cuda":
            name = "float16" if torch.cuda.get_device_capability(device) < (8, 0) else name
        return getattr(torch, name)
    name = PRECISIONS.get(dtype, dtype)
    if name not in PRECISIONS.values():
        raise InputError(f"Unknown dtype {dtype!r}; expected auto or one of {', '.join(PRECISIONS)}.")
    if name == "int8" and device.type != "cpu":
        raise InputError(f"int8 runs on a CPU only; on {device} use fp16 or bf16, or --device cpu.")
    return getattr(torch, name)


def place(
    model: PreTrainedModel,
    folder: ModelFolder,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    report: Callable[[str], object] = lambda sentence: None,
) -> PreTrainedModel:
    """
    Moves the model that was loaded from `folder`, in place.

    Args:
        device: as for `resolve_device`.
        dtype: as for `resolve_dtype`.
        report: is called with a sentence that says which device and data type they are.

    Raises:
        InputError: as `resolve_device` and `resolve_dtype`.
    """
    if quantizer := getattr(model, "hf_quantizer", None):
        raise InputError(
            f"{folder} is quantized by its config.json ({type(quantizer).__name__}), which is not for use here: delete"
            " its quantization_config, or load it with transformers."
        )
    chosen = resolve_device(device)
    settings = folder.base_folder.settings if folder.is_adapter else folder.settings
    saved = settings.get("dtype") or settings.get("torch_dtype")
    wanted = resolve_dtype(dtype, chosen, saved)
    model.to(device=chosen, dtype=torch.float32 if wanted == torch.int8 else wanted)
    if wanted == torch.int8:
        int8.quantize_linears(model)
    gpu = f" ({torch.cuda.get_device_name(chosen)})" if chosen.type == "cuda" else ""
    advice = " (--dtype int8 is faster here)" if dtype == "auto" and chosen.type == "cpu" and _gains(model) else ""
    report(f"Using {chosen}{gpu}, {precision_name(model)}{advice}.")
    return model


def load_placed(
    model_class: type[GPTScratchPreTrainedModel],
    folder: ModelFolder,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    report: Callable[[str], object] = lambda sentence: None,
    new_head: bool = False,
) -> PreTrainedModel:
    """
    What `load_pretrained` loads, moved by `place`; of an ONNX folder what `load_onnx` does, which stands in its place
    and takes neither parameters nor another device. Raises as they do.
    """
    if not is_onnx_folder(folder):
        return place(load_pretrained(model_class, folder, new_head), folder, device, dtype, report)
    model = load_onnx(folder, device, dtype)
    report(f"Using {model.device}, {precision_name(model)}, by onnxruntime.")
    return model


def _gains(model: PreTrainedModel) -> bool:
    """Whether int8 makes a model on this CPU much faster."""
    return (model.config.get_text_config().hidden_size or 0) >= INT8_WIDTH and int8.is_fast()


def precision_name(model: PreTrainedModel) -> str:
    """What a model computes in, such as "float32"; "int8" where its linear layers do."""
    return "int8" if int8.is_int8(model) else str(model.dtype).removeprefix("torch.")


def load_with_tokenizer(
    model_class: type[GPTScratchPreTrainedModel], name_or_path: str | os.PathLike, **placement
) -> tuple[GPTScratchPreTrainedModel, PreTrainedTokenizerBase]:
    """
    Loads a language model from a folder or a Hub repository, which is looked up once, as `load_pretrained`, and its
    tokenizer; `placement` is that of `place`.

    Raises:
        InputError: as `load_pretrained`; for a classifier, saying what it is for.
    """
    resolve_device(placement.get("device", "auto"))  # before anything is downloaded
    folder = ModelFolder.resolve(name_or_path)
    if "Classification" in held_class(folder):
        raise InputError(
            f"{name_or_path} holds a classifier, not a language model: use `hf-gpt-scratch classify {name_or_path}`."
        )
    model, tokenizer = load_placed(model_class, folder, **placement), load_tokenizer(folder.path)
    learn_to_end(model, tokenizer)
    model.name_or_path = str(name_or_path)
    lay_out_by_input(model)  # who loads it so lets it write
    return model, tokenizer


def held_class(folder: ModelFolder) -> str:
    """The name of the class of this package that a folder's model loads as; "" where it is not known."""
    if folder.is_adapter:
        return ADAPTED.get(folder.adapter.get("task_type"), ("",))[0]
    held = (folder.architectures or [""])[0]
    return ARCHITECTURES.get(held, held)


def record_reference_logits(folder: str | os.PathLike) -> None:
    """Writes what `reference_record` makes into the folder of the model or adapter; raises as that does."""
    write_json(Path(folder, reference_logits.FILE), reference_record(folder))


def reference_record(folder: str | os.PathLike) -> dict:
    """
    The answers of the model or adapter that was saved in `folder`, in fp32 on the CPU, to some fixed tokens.

    Raises:
        InputError: when it cannot be loaded, or the adapter is of a task that this package has no model for.
    """
    folder = ModelFolder.read(folder)
    # The head of an adapter's classifier is in the adapter, not in the base model.
    has_new_head = folder.is_adapter and folder.architecture != "GPTScratchForCausalLM"
    model = _load_as(folder.architecture, folder, has_new_head).float()
    generator = torch.Generator().manual_seed(0)
    length = min(reference_logits.TOKENS, model.config.n_positions)
    ids = torch.randint(model.config.vocab_size, (2, length), generator=generator)
    with torch.no_grad():
        answer = model(ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    return reference_logits.record(folder.path, folder.auto_class, ids, answer)


def _load_as(architecture: str, folder: ModelFolder, new_head: bool) -> GPTScratchPreTrainedModel:
    return load_pretrained(getattr(modeling_gpt_scratch, architecture), folder, new_head=new_head).eval()


def load(
    name_or_path: str | os.PathLike, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
) -> tuple[GPTScratchPreTrainedModel, PreTrainedTokenizerBase]:
    """
    Loads any model of the GPT-2 family, as the class that it was saved from, and its tokenizer.

    Args:
        name_or_path: a folder or a Hub repository of this package's model, of a stock GPT-2, or of a LoRA adapter.
        device: "cuda", "cuda:1", "mps" or "cpu"; "auto" is the first of them that is available.
        dtype: "fp32", "bf16", "fp16" (or torch's names of them), or "int8" on a CPU (`utils.int8`: for use, and not
            to be saved); "auto" is fp32 on the CPU, and elsewhere the one that the model was saved in, or fp16 in
            place of bf16 on GPUs that only emulate it.

    Raises:
        InputError: when it holds no such model, or no tokenizer, or the device is not available.

    Examples:
        >>> from hf_gpt_scratch import load
        >>> model, tokenizer = load("openai-community/gpt2")  # doctest: +SKIP
    """
    resolve_device(device)  # before anything is downloaded
    folder = ModelFolder.resolve(name_or_path)
    if folder.is_adapter:
        architecture = folder.architecture
    else:
        held = (folder.architectures or ["GPT2LMHeadModel"])[0]
        architecture = ARCHITECTURES.get(held, held)
        if architecture not in AUTO_CLASSES:
            raise InputError(
                f"{name_or_path} holds a {held}; expected one of {', '.join((*AUTO_CLASSES, *ARCHITECTURES))}."
            )
    model = load_placed(getattr(modeling_gpt_scratch, architecture), folder, device, dtype, new_head=folder.is_adapter)
    model.name_or_path = str(name_or_path)
    tokenizer = load_tokenizer(folder.path)
    if model.can_generate():
        learn_to_end(model, tokenizer)
    return model.eval(), tokenizer
