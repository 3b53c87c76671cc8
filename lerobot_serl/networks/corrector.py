"""The corrector network: what a person would do instead of the reference policy's chunk."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .chunk_mlp import ChunkMlp

# From one end of the action box to the other: a correction is not bounded as an edit is.
REACH = 2.0


class Corrector(ChunkMlp):
    """A chunk from features and the reference chunk, which it may change without bound.

    The output layer starts at zero: until it has seen corrections its chunk is the reference chunk.

    Args:
        feature_size: ``F``.
        horizon: ``h``.
        action_dim: ``D``.
        hidden_sizes, activation: see :class:`ChunkMlp`.
        kept: entries of the action that are not changed.
    """

    def __init__(
        self,
        feature_size: int,
        horizon: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        activation: str = "relu",
        kept: Sequence[int] = (),
    ) -> None:
        super().__init__(feature_size, horizon * action_dim, hidden_sizes, horizon * action_dim, activation)
        changed = torch.tensor([float(entry not in kept) for entry in range(action_dim)]) if kept else None
        self.register_buffer("changed", changed, persistent=False)

    changed: Tensor | None

    def forward(self, features: Tensor, base: Tensor) -> Tensor:
        """``features (B, F)``, ``base (B, h, D)`` -> the change in units of :data:`REACH`, ``(B, h, D)`` in (-1, 1)."""
        change = self.outputs(features, base).tanh().view(base.shape)
        return change if self.changed is None else change * self.changed
