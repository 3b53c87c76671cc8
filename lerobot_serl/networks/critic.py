"""Ensemble of LayerNorm critics ``Q_i(s, a_t .. a_{t+h-1})``: all in one matrix product a layer, or one after the other where that is faster."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .affine import affine

# Of a LayerNorm's result, which nothing else needs: in its place, where the gradient allows that. Memory that is written for the first time costs
# a CPU more than the arithmetic: a relu of 256 x 256 into new memory takes 63 microseconds, in place 4.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "silu": F.silu, "tanh": torch.tanh_}
# Chunks from which critics are faster one after the other, on a CPU: 1.3 times with 128 of them, twice with 512; with six half as fast.
LEAST_ROWS_ONE_BY_ONE = 64


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
        self.activation = ACTIVATIONS[activation]
        sizes = [feature_size + action_size, *hidden_sizes]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([_uniform(members, fan_in, fan_out) for fan_in, fan_out in pairs])
        self.biases = nn.ParameterList([torch.zeros(members, 1, fan_out) for _, fan_out in pairs])
        self.norm_weights = nn.ParameterList([torch.ones(members, 1, fan_out) for _, fan_out in pairs])
        self.norm_biases = nn.ParameterList([torch.zeros(members, 1, fan_out) for _, fan_out in pairs])
        self.head_weight = nn.Parameter(_uniform(members, sizes[-1], 1))
        self.head_bias = nn.Parameter(torch.zeros(members, 1, 1))

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
        candidates = chunk.shape[1] if chunk.dim() == 4 else 1
        flat = chunk.reshape(len(features) * candidates, -1)
        layers = (*self.weights, *self.biases, *self.norm_weights, *self.norm_biases, self.head_weight, self.head_bias)
        chosen = [parameter.detach() if frozen else parameter for parameter in layers]
        if flat.is_cpu and len(flat) >= LEAST_ROWS_ONE_BY_ONE:
            # One critic's numbers fit the processor's cache, those of all do not; and nothing is copied to leave critics out.
            each = list(zip(*(parameter.unbind() for parameter in chosen), strict=True))
            indices = range(self.members) if members is None else members.tolist()
            q = torch.stack([self._values(features, flat, *each[index]) for index in indices])
        else:
            q = self._values(features, flat, *(chosen if members is None else [parameter[members] for parameter in chosen]))
        return q.unflatten(1, (-1, candidates)) if chunk.dim() == 4 else q

    def _values(self, features: Tensor, flat: Tensor, *layers: Tensor) -> Tensor:
        """``features (B, F)``, ``flat (B * C, A)`` -> ``(B * C)`` of one critic, whose layers are matrices, or ``(E', B * C)`` of several."""
        depth = len(self.weights)
        weights, biases, norm_weights, norm_biases = (layers[i * depth : (i + 1) * depth] for i in range(4))
        if len(flat) == len(features):
            hidden = affine(torch.cat([features, flat], dim=-1), weights[0], biases[0])
        else:
            # The features' share of the first layer is the same for every candidate: compute it once.
            shared = affine(features, weights[0][..., : self.feature_size, :], biases[0]).unsqueeze(-2)
            hidden = affine(flat, weights[0][..., self.feature_size :, :])
            hidden.unflatten(-2, (len(features), -1)).add_(shared)
        for layer in range(depth):
            if layer > 0:
                hidden = affine(hidden, weights[layer], biases[layer])
            hidden = self.activation(_layer_norm(hidden, norm_weights[layer], norm_biases[layer]))
        return affine(hidden, layers[-2], layers[-1]).squeeze(-1)


def _layer_norm(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if hidden.dim() == 2:
        return F.layer_norm(hidden, hidden.shape[-1:], weight[0], bias[0])
    return torch.addcmul(bias, F.layer_norm(hidden, hidden.shape[-1:]), weight)


def _uniform(members: int, fan_in: int, fan_out: int) -> Tensor:
    """``(E, in, out)``, uniform in +-1/sqrt(in), a draw of its own for every member."""
    bound = 1.0 / math.sqrt(fan_in)
    return torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)
