"""Ensemble of LayerNorm critics ``Q_i(s, a_t .. a_{t+h-1})``: all in one matrix product a layer, or where a CPU is faster, one after the other."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import sac
from . import fast_cpu
from .chunk_mlp import ACTIVATIONS


class CriticEnsemble(nn.Module):
    """``E`` independent MLPs; a LayerNorm follows every hidden linear layer (RLPD's critic).

    Args:
        feature_size: ``F``, size of the observation features.
        action_size: ``A = h * D``, size of the flattened chunk.
        hidden_sizes: width of each hidden layer.
        members: ``E``.
        activation: ``relu``, ``silu`` or ``tanh`` (SERL's).
    """

    def __init__(self, feature_size: int, action_size: int, hidden_sizes: Sequence[int], members: int, activation: str = "relu") -> None:
        super().__init__()
        self.feature_size = feature_size
        self.members = members
        self.activation = activation
        sizes = [feature_size + action_size, *hidden_sizes]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([_uniform(members, fan_in, fan_out) for fan_in, fan_out in pairs])
        self.biases = nn.ParameterList([torch.zeros(members, 1, fan_out) for _, fan_out in pairs])
        self.norm_weights = nn.ParameterList([torch.ones(members, 1, fan_out) for _, fan_out in pairs])
        self.norm_biases = nn.ParameterList([torch.zeros(members, 1, fan_out) for _, fan_out in pairs])
        self.head_weight = nn.Parameter(_uniform(members, sizes[-1], 1))
        self.head_bias = nn.Parameter(torch.zeros(members, 1, 1))
        self._seen: fast_cpu.Networks | None = None

    def forward(self, features: Tensor, chunk: Tensor, members: Tensor | None = None, frozen: bool = False) -> Tensor:
        """Values of chunks.

        Args:
            features: ``(B, F)``.
            chunk: ``(B, h, D)``, or ``(B, C, h, D)`` for ``C`` candidates of each observation.
            members: int64 indices of the critics to evaluate; all of them if None. Evaluating two of ten for the target costs
                a fifth.
            frozen: keep the critics' own parameters out of the gradient; the chunk stays differentiable (actor loss).

        Returns:
            ``(E', B)`` or ``(E', B, C)``.
        """
        flat = chunk.flatten(-2).flatten(0, -2)
        if fast_cpu.suits(flat) and (frozen or not torch.is_grad_enabled()):
            q = fast_cpu.values(self._networks, features, flat, None if members is None else members.tolist())
        else:
            chosen = self._layers if members is None else [layer[members] for layer in self._layers]
            q = self._values(features, flat, [layer.detach() for layer in chosen] if frozen else chosen)
        return q.unflatten(1, chunk.shape[:-2])

    def squared_error(
        self, features: Tensor, chunk: Tensor, target: Tensor | float, contrast: Sequence[float] = (1.0,), weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``mean_{i,b} weight_b (sum_c contrast_c Q_i(s, c) - target)^2``, on a CPU faster than of the values.

        Args:
            features, chunk: see :meth:`forward`.
            target: ``(B,)`` or a number.
            contrast: a factor for each candidate.
            weight: ``(B,)``; None: 1.

        Returns:
            () loss, and the values without gradient, as :meth:`forward` gives them.
        """
        flat, rows = chunk.flatten(-2).flatten(0, -2), chunk.shape[:-2]
        if fast_cpu.suits(flat) and torch.is_grad_enabled():
            loss, q = fast_cpu.squared_error(self._networks, features, flat, contrast, target, weight)
            return loss, q.unflatten(1, rows)
        q = self._values(features, flat, self._layers).unflatten(1, rows)
        candidates = q.unbind(-1) if chunk.dim() == 4 else [q]
        contrasted = torch.stack([factor * values for factor, values in zip(contrast, candidates, strict=True)]).sum(0)
        return sac.critic_loss(contrasted, target, weight), q.detach()

    @property
    def _layers(self) -> list[Tensor]:
        """Of each hidden layer weight, bias, LayerNorm's weight and bias; of the last weight and bias."""
        lists = (self.weights, self.biases, self.norm_weights, self.norm_biases)
        layers = zip(*(each._parameters.values() for each in lists), strict=True)  # of each list in its order, in a fifth of the time
        return [*chain.from_iterable(cast("Iterator[tuple[Tensor, ...]]", layers)), self.head_weight, self.head_bias]

    @property
    def _networks(self) -> fast_cpu.Networks:
        layers = self._layers
        if self._seen is None or not self._seen.are_of(layers):
            self._seen = fast_cpu.Networks(self.activation, layers)
        return self._seen

    def _values(self, features: Tensor, flat: Tensor, layers: Sequence[Tensor]) -> Tensor:
        """``features (B, F)``, ``flat (B * C, A)`` -> ``(E', B * C)``, all critics in one product a layer."""
        size, (first, bias, *rest) = self.feature_size, layers
        # The features' share of the first layer is the same for every candidate: compute it once.
        shared = torch.baddbmm(bias, features.expand(len(first), -1, -1), first[:, :size])
        hidden = shared.repeat_interleave(len(flat) // len(features), 1) + flat @ first[:, size:]
        for scale, shift, weight, bias in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True):
            hidden = ACTIVATIONS[self.activation](torch.addcmul(shift, F.layer_norm(hidden, hidden.shape[-1:]), scale))
            hidden = torch.baddbmm(bias, hidden, weight)
        return hidden.squeeze(-1)


def _uniform(members: int, fan_in: int, fan_out: int) -> Tensor:
    """``(E, in, out)``, uniform in +-1/sqrt(in), a draw of its own for every member."""
    bound = 1.0 / math.sqrt(fan_in)
    return torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)
