"""``inputs @ weight + bias``, by oneDNN on processors with AVX-512, which takes half the time of PyTorch's own choice on those of AMD.

PyTorch gives products of 32-bit matrices to MKL, and MKL does without AVX-512 on AMD's processors: 256 x 256 x 256 take 330 microseconds, by
oneDNN 160 (one thread of an EPYC of 2024). Without AVX-512 (an EPYC of 2021) MKL takes 410 and oneDNN 450, and of 256 x 22 x 256 MKL takes 54 and
oneDNN 85. PyTorch ships oneDNN too; its ``torch.compile`` calls the same operator as here.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# By what the processor can do and not by a clock, so that a seed fixes a run.
ONE_DNN_IS_FASTER = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
# Multiplications of a product from which oneDNN's overhead of 15 microseconds is worth it.
LEAST_MULTIPLICATIONS = 1 << 20


def affine(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``inputs @ weight + bias``.

    Args:
        inputs: ``(N, in)``; with an ensemble's weight also ``(E, N, in)``.
        weight: ``(in, out)``, or ``(E, in, out)`` of an ensemble.
        bias: ``(out)`` or ``(1, out)``; ``(E, 1, out)`` of an ensemble.

    Returns:
        ``(N, out)`` or ``(E, N, out)``.
    """
    if weight.dim() == 3:
        expanded = inputs.expand(len(weight), *inputs.shape[-2:])
        return torch.bmm(expanded, weight) if bias is None else torch.baddbmm(bias, expanded, weight)
    if _suits_one_dnn(inputs, weight):
        result: Tensor = _OneDnnAffine.apply(inputs, weight, None if bias is None else bias.reshape(-1))
        return result
    return inputs @ weight if bias is None else torch.addmm(bias, inputs, weight)


def _suits_one_dnn(inputs: Tensor, weight: Tensor) -> bool:
    return (
        ONE_DNN_IS_FASTER
        and inputs.numel() * weight.shape[1] >= LEAST_MULTIPLICATIONS
        and inputs.is_cpu
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``left @ right + bias``."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, "none", [], "")
    return result


class _OneDnnAffine(torch.autograd.Function):
    """PyTorch's operator has no gradient of its own."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if of_inputs else None,
            _product(inputs.t(), gradient) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )
