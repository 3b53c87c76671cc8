"""Soft actor-critic for action chunks, on a bounded edit of a reference policy: read this file first.

Pure functions of tensors; nothing here knows of networks, datasets or LeRobot. Letters in shapes:
``B`` batch, ``E`` critics in the ensemble, ``C`` candidate chunks, ``h`` executed steps of a chunk (the horizon),
``n`` steps whose rewards a target sums (``n >= h``), ``D`` action dimension, ``A = h * D`` size of a flattened chunk.

Sources: SAC (Haarnoja et al., arXiv 1812.05905), SERL (arXiv 2401.16013), RLPD (arXiv 2302.02948), Q-chunking
(arXiv 2507.07969), EXPO (arXiv 2507.07986). ``tests/package/test_sac.py`` holds these functions to numbers of SERL's JAX code.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

BackupEntropy = Literal["none", "soft", "serl"]


def tanh_gaussian(mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Sample ``tanh(mean + std * noise)`` and its log-probability.

    ``log pi(u) = sum_A [log N(x; mean, std) - log(1 - tanh(x)^2)]`` with ``x = mean + std * noise``
    (SAC, appendix C, eq. 26); ``log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2x))`` stays finite for large ``|x|``.

    Args:
        mean: ``(..., A)`` of the Gaussian before the squashing.
        std: ``(..., A)``, positive.
        noise: ``(..., A)``, standard normal.

    Returns:
        sample ``(..., A)`` in (-1, 1) and log-probability ``(...)``.
    """
    sample, log_prob = _TanhGaussian.apply(mean, std, noise)
    return sample, log_prob


class _TanhGaussian(torch.autograd.Function):
    """With the gradient written out, in a third of the operations: ``d log pi / dx = 2 tanh(x)``, beside ``-1 / std``."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        pre_tanh = torch.addcmul(mean, std, noise)
        sample = pre_tanh.tanh()
        ctx.save_for_backward(std, noise, sample)
        constant = 0.5 * math.log(2 * math.pi) + 2 * math.log(2.0)
        log_prob = 2.0 * (pre_tanh + F.softplus(-2.0 * pre_tanh)) - 0.5 * noise.square() - std.log()
        return sample, log_prob.sum(-1) - mean.shape[-1] * constant

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sample: Tensor, of_log_prob: Tensor) -> tuple[Tensor, Tensor, None]:
        std, noise, sample = ctx.saved_tensors
        of_log_prob = of_log_prob.unsqueeze(-1)
        of_mean = of_sample * (1.0 - sample.square()) + 2.0 * sample * of_log_prob
        return of_mean, of_mean * noise - of_log_prob / std, None


def edit_chunk(base: Tensor, edit: Tensor, scale: Tensor | float) -> Tensor:
    """The executed chunk: ``a = clip(b + scale * edit, -1, 1)`` (the residual form of EXPO's edit policy).

    Args:
        base: ``(..., h, D)`` the reference policy's chunk in [-1, 1] action units.
        edit: ``(..., h, D)`` in (-1, 1).
        scale: largest change of an action, in action units; a number or ``(D,)``.
    """
    return (base + scale * edit).clamp(-1.0, 1.0)


def window_return(reward: Tensor, length: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """Reward and discount of a window of ``length`` executed steps.

    ``R = sum_{k < K} gamma^k r_{t+k}`` and ``gamma^K`` (n-step returns; with ``n = h`` Q-chunking).

    Args:
        reward: ``(B, n)`` rewards following each step; entries at or after ``length`` are ignored.
        length: ``(B,)`` int64, ``1 <= K <= n``.

    Returns:
        ``(B,)`` discounted reward and ``(B,)`` discount of the value after the window.
    """
    step = torch.arange(reward.shape[-1], device=reward.device)
    weight = discount ** step.to(reward.dtype)
    inside = step < length.unsqueeze(-1)
    return (reward * weight * inside).sum(-1), discount ** length.to(reward.dtype)


def choose_candidate(q: Tensor, margin: float) -> Tensor:
    """Which candidate to execute: candidate 0 (the reference policy's chunk) unless the critics agree on a better one.

    Score of candidate ``c``: mean over critics of ``Q_i(c) - Q_i(0)`` minus ``margin`` times the standard deviation of that
    difference over the critics. Candidate 0 has score 0 by construction. ``margin = 0`` is EXPO's and IBRL's argmax of
    the ensemble mean; it is no guard while the critics are young (docs/algorithm.md).

    Args:
        q: ``(E, B, C)``.
        margin: standard deviations by which a candidate must beat the reference.

    Returns:
        ``(B,)`` int64 index into the candidates.
    """
    return advantage_score(q, margin).argmax(-1)


def advantage_score(q: Tensor, margin: float) -> Tensor:
    """``mean_i A_i(c) - margin std_i A_i(c)`` with ``A_i(c) = Q_i(c) - Q_i(0)``: how sure the critics are that ``c`` is better.

    Args:
        q: ``(E, B, C)``.

    Returns:
        ``(B, C)``, 0 for candidate 0 (to 1e-6 margins).
    """
    advantage = q - q[..., :1]
    # Held above 0: where all critics agree, a deviation of 0 would have no finite gradient. All candidates share the small floor.
    deviation = advantage.var(0, correction=0).clamp_min(1e-12).sqrt()
    return advantage.mean(0) - margin * deviation


def critic_target(
    reward: Tensor,
    discount: Tensor,
    next_q: Tensor,
    *,
    backup_entropy: BackupEntropy = "none",
    temperature: Tensor | float = 0.0,
    next_log_prob: Tensor | None = None,
    value_range: tuple[float, float] | None = None,
) -> Tensor:
    """Target of the critics: ``y = R + gamma^K (1 - terminated) min_i Qbar_i(s', a')`` (RLPD; SERL ``sac.py``).

    ``discount`` already contains ``gamma^K`` and is 0 where the episode terminated; a truncated episode bootstraps.

    Args:
        reward: ``(B,)`` discounted reward inside the window.
        discount: ``(B,)``.
        next_q: ``(E', B)`` the target critics that take part in the minimum.
        backup_entropy: ``none`` (SERL's, HIL-SERL's and RLPD's sparse setting); ``soft``, SAC eq. 3, with discount and mask;
            ``serl``, SERL's own form, which subtracts the entropy term without discount and mask.
        temperature: alpha; used with entropy only.
        next_log_prob: ``(B,)`` log pi(a'|s'); needed with entropy only.
        value_range: clip the target to the reachable values, e.g. (0, 1) for a 0/1 reward that ends the episode.

    Returns:
        ``(B,)`` without gradient.
    """
    with torch.no_grad():
        next_value = next_q.min(0).values
        if backup_entropy == "soft":
            next_value = next_value - temperature * _required(next_log_prob)
        target = reward + discount * next_value
        if backup_entropy == "serl":
            target = target - temperature * _required(next_log_prob)
        return target if value_range is None else target.clamp(*value_range)


def critic_loss(q: Tensor, target: Tensor | float, weight: Tensor | None = None) -> Tensor:
    """``mean_{i,b} w_b (Q_i(s, a) - y)^2`` over ``(E, B)`` critics and ``(B,)`` targets (SAC eq. 5, mean over the ensemble).

    Args:
        weight: ``(B,)`` w, the importance weights of a sampler that prefers some windows (arXiv 1511.05952, eq. 2); None: 1.
    """
    error = (q - target).square()
    return error.mean() if weight is None else (weight * error).mean()


def actor_loss(q: Tensor, log_prob: Tensor, temperature: Tensor | float) -> Tensor:
    """``mean_b [alpha log pi(a|s) - mean_i Q_i(s, a)]`` (SAC eq. 7; the mean over critics as in RLPD and SERL).

    Args:
        q: ``(E, B)`` at actions sampled from the actor, with gradient through the action.
        log_prob: ``(B,)``.
        temperature: alpha, not differentiated here.
    """
    alpha = temperature.detach() if isinstance(temperature, Tensor) else temperature
    return (alpha * log_prob - q.mean(0)).mean()


def imitation_loss(change: Tensor, wanted: Tensor, intervention: Tensor) -> Tensor:
    """Mean of ``|g(s, b) - (a - b) / reach|^2`` over a person's steps: behaviour cloning of corrections (HG-DAgger, arXiv 1810.02890).

    Args:
        change: ``(B, h, D)`` in [-1, 1].
        wanted: ``(B, h, D)`` the change of the reference policy's chunk that the person made, in the same units.
        intervention: ``(B, h)`` bool; without any the loss is 0.
    """
    squared = (change - wanted).square().mean(-1)
    return (squared * intervention).sum() / intervention.sum().clamp_min(1)


def temperature_loss(temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """``alpha (H(pi) - H_target)`` with ``H = -mean log pi`` (SAC eq. 18; SERL's Lagrange multiplier).

    Args:
        temperature: () alpha, differentiable.
        log_prob: ``(B,)``, not differentiated.
    """
    return temperature * (-log_prob.detach().mean() - target_entropy)


def temperature_of(raw: Tensor) -> Tensor:
    """``alpha = softplus(raw)``: positive for every real ``raw`` (SERL ``lagrange.py``)."""
    return F.softplus(raw)


def raw_temperature_of(temperature: float) -> float:
    """The inverse of :func:`temperature_of`: ``raw = log(exp(alpha) - 1)``."""
    return temperature + math.log(-math.expm1(-temperature))


@torch.no_grad()
def update_target(target: Iterable[Tensor], online: Iterable[Tensor], rate: float) -> None:
    """``target <- (1 - tau) target + tau online``, in place (SAC algorithm 1)."""
    torch._foreach_lerp_(list(target), list(online), rate)


def entropy_of_tanh_gaussian(std: float, points: int = 4001) -> float:
    """Entropy in nats of ``tanh(x)``, ``x ~ N(0, std)``, for one dimension.

    ``H = 0.5 log(2 pi e std^2) + E[log(1 - tanh(x)^2)]``; the expectation by the trapezoidal rule over +-8 std. A target equal to
    the initial entropy leaves the temperature without a drift at the start (docs/algorithm.md).
    """
    x = torch.linspace(-8.0 * std, 8.0 * std, points, dtype=torch.float64, device="cpu")  # also while a network is built without memory
    density = torch.exp(-0.5 * (x / std) ** 2) / (std * math.sqrt(2 * math.pi))
    log_slope = 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))
    return 0.5 * math.log(2 * math.pi * math.e * std**2) + float(torch.trapezoid(density * log_slope, x))


def _required(log_prob: Tensor | None) -> Tensor:
    if log_prob is None:
        raise ValueError("backup_entropy needs next_log_prob (B,), got None")
    return log_prob
