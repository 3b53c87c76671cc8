"""Gradients of what surrounds the actor's network, written out: one step back where PyTorch's own takes nine. For a CPU, see ``fast_cpu.py``."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def edited(base: Tensor, edit: Tensor, spread: Tensor, scale: Tensor) -> Tensor:
    """``clip(base + scale (edit @ spread), -1, 1)``, with gradient to the edit only.

    Args:
        base: ``(B, h, D)``.
        edit: ``(B, K)``.
        spread: ``(M * D', h * D)``.
        scale: ``(D,)``.
    """
    result: Tensor = _Edited.apply(base, edit, spread, scale)
    return result


def gaussian(outputs: Tensor, init_log_std: float, lowest: float, highest: float) -> tuple[Tensor, Tensor]:
    """``(B, 2 * K)`` outputs of an actor -> mean and standard deviation ``exp(clip(init_log_std + second half))``, each ``(B, K)``."""
    mean, std = _Gaussian.apply(outputs, init_log_std, lowest, highest)
    return mean, std


class _Edited(torch.autograd.Function):
    """One step back, where PyTorch's own takes five."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, edit: Tensor, spread: Tensor, scale: Tensor) -> Tensor:
        chunk = base + scale * (edit @ spread).view(base.shape)
        ctx.save_for_backward(chunk, spread, scale)
        return chunk.clamp(-1.0, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        chunk, spread, scale = ctx.saved_tensors
        return None, (gradient.masked_fill(chunk.abs() > 1.0, 0.0) * scale).flatten(1) @ spread.t(), None, None


class _Gaussian(torch.autograd.Function):
    """One step back, where PyTorch's own takes four."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, init_log_std: float, lowest: float, highest: float) -> tuple[Tensor, Tensor]:
        mean, change = outputs.tensor_split(2, dim=-1)
        log_std = init_log_std + change
        std = log_std.clamp(lowest, highest).exp_()
        ctx.save_for_backward(log_std, std)
        ctx.limits = lowest, highest
        return mean.clone(), std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean: Tensor, of_std: Tensor) -> tuple[Tensor | None, ...]:
        log_std, std = ctx.saved_tensors
        lowest, highest = ctx.limits
        inside = (log_std >= lowest).logical_and_(log_std <= highest)
        return torch.cat([of_mean, of_std * std * inside], dim=-1), None, None, None
