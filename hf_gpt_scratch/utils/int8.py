"""
Linear layers of int8 weights and activations, for using a model on a CPU: 4 times smaller and up to 4 times as fast.

A weight matrix has a scale for each output, and the activations one for each token, found as they come (dynamic
quantization; Dettmers et al. 2022, section 3, without the outliers). So a token's scale does not depend on the other
tokens of its batch, as one scale for all of them would. The products of whole numbers are exact.
"""

from functools import cache

import torch
from torch import nn

from .errors import InputError
from .precision import AT_LEAST, times_faster

HIGHEST = 127
SMALLEST = 1e-30  # a scale of zeros alone
IN_FULL = ("score", "classifier", "lora_")  # layers that begin so: heads of a few labels, adapters of a few ranks


class Int8Linear(nn.Module):
    """
    A linear layer, quantized: `(..., in_features)` to `(..., out_features)`, without gradients.

    Args:
        is_tied: whether the weights are those of another layer too, which keeps them; they then are no parameters of
            this one.
    """

    def __init__(self, linear: nn.Linear, is_tied: bool = False):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scales = quantize(linear.weight.detach().contiguous())  # as products with one token are fastest
        if is_tied:
            self.register_buffer("weight", weight)
        else:
            self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scales", scales[:, 0])  # (out_features,)
        self.bias = linear.bias

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        tokens, scales = quantize(hidden_states.reshape(-1, self.in_features))  # (N, in_features), (N, 1)
        products = torch._int_mm(tokens, self.weight.t())  # (N, out_features), int32
        result = products.float().mul_(scales).mul_(self.scales)
        if self.bias is not None:
            result += self.bias
        return result.view(*hidden_states.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def quantize(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows `(N, C)` as int8, and the scales `(N, 1)` to multiply them by."""
    largest = torch.maximum(rows.amax(-1, keepdim=True), rows.amin(-1, keepdim=True).neg_())
    scales = largest.clamp_(min=SMALLEST).mul_(1 / HIGHEST)
    return (rows / scales).round_().to(torch.int8), scales


@torch.no_grad()
def quantize_linears(model: nn.Module) -> None:
    """
    Quantizes the linear layers of a float32 model in place, but for the heads of classifiers. A language model's
    output head is quantized too; the embedding that it may be tied to stays as it is. Such a model is neither trained
    nor saved.

    Raises:
        InputError: where the CPU's products of int8 are not exact.
    """
    if not is_exact():
        raise InputError("This CPU computes int8 products inexactly (it has no VNNI); use --dtype fp32.")
    shared = {parameter.data_ptr() for module in model.modules() for parameter in _embedding(module)}
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and not any(part.startswith(IN_FULL) for part in name.split(".")):
            quantized = Int8Linear(module, is_tied=module.weight.data_ptr() in shared).train(module.training)
            model.set_submodule(name, quantized)
    model.requires_grad_(False)  # or gradients would end unnoticed where numbers are rounded
    model.save_pretrained = model.push_to_hub = _refuse_to_save


def _embedding(module: nn.Module) -> list[nn.Parameter]:
    return [module.weight] if isinstance(module, nn.Embedding) else []


def _refuse_to_save(*args, **kwargs):
    raise InputError("An int8 model is for use only and cannot be saved; load it with dtype fp32 and save that.")


def is_int8(model: nn.Module) -> bool:
    """Whether `quantize_linears` was here."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


@cache
def is_exact() -> bool:
    """Whether products of int8 are exact on this CPU: where it has no VNNI, sums of two may be cut at 16 bits."""
    left = torch.full((8, 64), HIGHEST, dtype=torch.int8)
    right = torch.full((64, 64), -HIGHEST, dtype=torch.int8)
    return bool((torch._int_mm(left, right.t()) == -64 * HIGHEST**2).all())


@cache
@torch.no_grad()
def is_fast() -> bool:
    """Whether a layer of int8 is worth it on this CPU: exact, and faster than one of float32; 30 ms are timed."""
    with torch.random.fork_rng(devices=[]):  # what is drawn later stays as it was
        layer, given = nn.Linear(768, 768), torch.randn(64, 768)
    quantized = Int8Linear(layer)
    return is_exact() and times_faster(lambda: layer(given), lambda: quantized(given)) >= AT_LEAST
