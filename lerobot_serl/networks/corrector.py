"""The corrector network: what a person would do instead of the reference policy's chunk."""

from collections.abc import Sequence

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
    """

    def __init__(self, feature_size: int, horizon: int, action_dim: int, hidden_sizes: Sequence[int], activation: str = "relu") -> None:
        super().__init__(feature_size, horizon * action_dim, hidden_sizes, horizon * action_dim, activation)

    def forward(self, features: Tensor, base: Tensor) -> Tensor:
        """``features (B, F)``, ``base (B, h, D)`` -> the change in units of :data:`REACH`, ``(B, h, D)`` in (-1, 1)."""
        return self.outputs(features, base).tanh().view(base.shape)
