"""The corrector network: what a person would do instead of the reference policy's chunk."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .critic import ACTIVATIONS

# From one end of the action box to the other: a correction is not bounded as an edit is.
REACH = 2.0


class Corrector(nn.Module):
    """A chunk from features and the reference chunk, which it may change without bound.

    The output layer starts at zero: until it has seen corrections its chunk is the reference chunk.

    Args:
        feature_size: ``F``.
        horizon: ``h``.
        action_dim: ``D``.
        hidden_sizes: width of each hidden layer; a LayerNorm follows each.
        activation: name of it.
    """

    def __init__(self, feature_size: int, horizon: int, action_dim: int, hidden_sizes: Sequence[int], activation: str = "relu") -> None:
        super().__init__()
        sizes = [feature_size + horizon * action_dim, *hidden_sizes]
        self.activation = ACTIVATIONS[activation]
        self.linears = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        self.norms = nn.ModuleList([nn.LayerNorm(size) for size in hidden_sizes])
        self.head = nn.Linear(sizes[-1], horizon * action_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def has_learnt(self) -> bool:
        """Whether it was ever updated."""
        return bool(self.head.weight.any()) or bool(self.head.bias.any())

    def forward(self, features: Tensor, base: Tensor) -> Tensor:
        """``features (B, F)``, ``base (B, h, D)`` -> the change in units of :data:`REACH`, ``(B, h, D)`` in (-1, 1)."""
        hidden = torch.cat([features, base.flatten(1)], dim=-1)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            hidden = self.activation(norm(linear(hidden)))
        return self.head(hidden).tanh().view(base.shape)
