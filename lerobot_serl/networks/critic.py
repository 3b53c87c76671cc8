"""Ensemble of LayerNorm critics ``Q_i(s, a_t .. a_{t+h-1})``, evaluated as one batched matrix product per layer."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "tanh": torch.tanh}


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
        flat = chunk.reshape(features.shape[0], candidates, -1)

        def own(parameter: Tensor) -> Tensor:
            chosen = parameter if members is None else parameter[members]
            return chosen.detach() if frozen else chosen

        first = own(self.weights[0])
        # The features' share of the first layer is the same for every candidate: compute it once.
        hidden = (features @ first[:, : self.feature_size]).unsqueeze(2) + torch.einsum(
            "bca,eao->ebco", flat, first[:, self.feature_size :]
        )
        hidden = hidden.flatten(1, 2) + own(self.biases[0])
        for layer in range(len(self.weights)):
            if layer > 0:
                hidden = torch.baddbmm(own(self.biases[layer]), hidden, own(self.weights[layer]))
            normal = F.layer_norm(hidden, hidden.shape[-1:])
            hidden = self.activation(torch.addcmul(own(self.norm_biases[layer]), normal, own(self.norm_weights[layer])))
        q = torch.baddbmm(own(self.head_bias), hidden, own(self.head_weight)).squeeze(-1)
        return q.unflatten(1, (-1, candidates)) if chunk.dim() == 4 else q


def _uniform(members: int, fan_in: int, fan_out: int) -> Tensor:
    """``(E, in, out)``, uniform in +-1/sqrt(in), a draw of its own for every member."""
    bound = 1.0 / math.sqrt(fan_in)
    return torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)
