"""In which precision a run computes: fp16 or bf16 beside weights of fp32 (autocast), or fp32."""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.utils import is_torch_xla_available

from ..utils.errors import UsageError
from ..utils.precision import fast_cpu_dtype, why_cpu_dtype
from .progress import print_line

NARROWEST = 256  # n_embd from which bf16 pays on a CPU: 1.4 times as fast there, and less than 1.2 times below it


def set_precision(args: TrainingArguments) -> None:
    """
    Sets `fp16` and `bf16` as `precision` says. For "auto" on a CPU neither is set, as the model has a say there
    (`suit_cpu`); and `use_cpu` is where bf16 is asked for on a machine that has nothing else.

    Raises:
        UsageError: for fp16 on a CPU.
    """
    has_other = torch.accelerator.is_available() or torch.cuda.is_available() or is_torch_xla_available()
    on_cpu = args.use_cpu or not has_other
    wanted = "fp16" if args.fp16 else "bf16" if args.bf16 else args.precision
    if on_cpu and wanted == "fp16":
        raise UsageError("fp16 needs a GPU; on a CPU train with --precision bf16 or fp32.")
    if wanted == "auto":
        wanted = "fp32" if args.use_cpu or not torch.cuda.is_available() else _best_of_the_gpu()
    args.fp16, args.bf16 = wanted == "fp16", wanted == "bf16"
    args.use_cpu |= on_cpu and args.bf16  # transformers wants to be told


def _best_of_the_gpu() -> str:
    return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"


def suit_cpu(
    args: TrainingArguments,
    model: PreTrainedModel | None,
    begun_in: Callable[[TrainingArguments], str | None],
) -> None:
    """
    For the precision "auto" on a CPU: bf16 where this CPU is faster at it and the model is wide enough for it to pay,
    else fp32. Of a model that is, it prints which and why.

    Args:
        begun_in: the precision of the run that is to be resumed, if any. One in fp32 goes on in it.
    """
    is_open = getattr(args, "precision", "") == "auto" and not args.bf16 and args.device.type == "cpu"
    width = getattr(getattr(model, "config", None), "n_embd", 0)
    if not is_open or width < NARROWEST or getattr(model, "is_quantized", False):
        return
    is_begun = begun_in(args) == "fp32"
    if not is_begun and fast_cpu_dtype() == torch.bfloat16:
        args.bf16, args.mixed_precision = True, "bf16"
    if args.process_index == 0:
        why = "the run began in it" if is_begun else why_cpu_dtype()
        print_line(f"Training in {'bf16' if args.bf16 else 'fp32'}: {why}.")
