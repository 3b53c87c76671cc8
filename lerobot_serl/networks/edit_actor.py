"""The actor network: a small tanh-Gaussian that edits the reference policy's chunk."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import edit_gradients, fast_cpu
from .chunk_mlp import ChunkMlp


class EditActor(ChunkMlp):
    """Mean and standard deviation of the edit before the squashing, from features and the reference chunk.

    The output layer starts at zero: the mean edit is 0, the deterministic policy is the reference policy, and the standard
    deviation is ``init_std`` everywhere.

    Args:
        feature_size: ``F``.
        horizon: ``h``.
        knots: ``M``, points of the chunk at which there is an edit; :meth:`along_chunk` interpolates.
        action_dim: ``D``.
        hidden_sizes: width of each hidden layer; a LayerNorm follows each.
        init_std, min_std, max_std: of the Gaussian before the squashing.
        fixed_std: keep the standard deviation at ``init_std`` (TD3-like).
        kept: entries of the action that are not edited.

    Attributes:
        action_dim: ``D'``, entries that are edited.
        edits: ``(D,)`` bool, which ones.
    """

    def __init__(
        self,
        feature_size: int,
        horizon: int,
        knots: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        init_std: float,
        min_std: float,
        max_std: float,
        fixed_std: bool = False,
        activation: str = "relu",
        kept: Sequence[int] = (),
    ) -> None:
        edited = sorted({*range(action_dim)} - {*kept})
        super().__init__(feature_size, horizon * action_dim, hidden_sizes, 2 * knots * len(edited), activation)
        self.knots = knots
        self.action_dim = len(edited)
        self.fixed_std = fixed_std
        edits = torch.zeros(action_dim, dtype=torch.bool)
        edits[edited] = True
        self.register_buffer("edits", edits, persistent=False)
        # All steps and entries of the action at once, 0 of what is kept: one product of matrices instead of one for each row of a batch.
        spread = torch.kron(interpolation(knots, horizon).t().contiguous(), torch.eye(action_dim)[edited])
        self.register_buffer("spread", spread, persistent=False)
        self.log_std_range = (math.log(min_std), math.log(max_std))
        self.init_log_std = math.log(init_std)

    edits: Tensor
    spread: Tensor

    def forward(self, features: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """``features (B, F)``, ``base (B, h, D)`` -> mean and standard deviation, each ``(B, M * D')``."""
        outputs = self.outputs(features, base)
        if outputs.requires_grad and not self.fixed_std and fast_cpu.suits(outputs):
            return edit_gradients.gaussian(outputs, self.init_log_std, *self.log_std_range)
        mean, log_std = outputs.chunk(2, dim=-1)
        if self.fixed_std:
            return mean, torch.full_like(mean, math.exp(self.init_log_std))
        return mean, (self.init_log_std + log_std).clamp(*self.log_std_range).exp()

    def along_chunk(self, edit: Tensor) -> Tensor:
        """``(..., M * D')`` edits at the knots -> ``(..., h, D)`` edits of every step, within the same bounds; 0 of what is kept."""
        return (edit @ self.spread).unflatten(-1, (-1, len(self.edits)))


def interpolation(knots: int, steps: int) -> Tensor:
    """``(steps, knots)``: each step's weights of the knots, which lie evenly from the first step to the last; rows sum to 1."""
    if knots == 1:
        return torch.ones(steps, 1)
    # The device by name: where Transformers was the first to build a network without memory, PyTorch no longer sets linspace's by itself.
    place = torch.linspace(0, knots - 1, steps, device=torch.get_default_device()).unsqueeze(-1)
    return (1 - (place - torch.arange(knots)).abs()).clamp_min(0)
