"""The grasp critics: what each decision about the grippers is worth, for the chunk that begins now."""

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chunk_mlp import ChunkMlp

BASE, LOW, HIGH = 0, 1, 2


class GraspCritic(nn.Module):
    """``Q_i(s, d) = V_i(s, b) + A_i(s, b, d)`` with ``A_i = 0`` for decision 0, which leaves the grippers to the reference policy.

    The output layers start at zero: until it has learnt, no decision is worth more than the reference policy's own. A
    decision that nobody tried stays worth as much, whatever the sign of the rewards.

    Args:
        feature_size: ``F``.
        horizon: ``h``.
        action_dim: ``D``.
        grippers: entries of the action, ``G`` of them.
        moments: steps of a chunk, evenly spaced from the first, from which a gripper may be told otherwise than the
            reference policy tells it.
        hidden_sizes, activation: see :class:`ChunkMlp`.
        members: ``E``.
    """

    def __init__(
        self, feature_size: int, horizon: int, action_dim: int, grippers: Sequence[int], moments: int, hidden_sizes: Sequence[int], members: int,
        activation: str = "relu",
    ) -> None:  # fmt: skip
        super().__init__()
        decisions = torch.tensor(joint_decisions(len(grippers), moments, horizon))
        self.networks = nn.ModuleList(
            [ChunkMlp(feature_size, horizon * action_dim, hidden_sizes, len(decisions), activation) for _ in range(members)]
        )
        self.register_buffer("grippers", torch.tensor(tuple(grippers)), persistent=False)
        self.register_buffer("position", decisions[..., 0], persistent=False)
        self.register_buffer("start", decisions[..., 1], persistent=False)
        self.register_buffer("positions", torch.tensor([[-1.0], [1.0]]).repeat(1, len(grippers)))

    grippers: Tensor
    position: Tensor
    start: Tensor
    positions: Tensor

    @property
    def decisions(self) -> int:
        """``N``."""
        return len(self.position)

    @property
    def middle(self) -> Tensor:
        """``(G,)`` halfway between each gripper's two positions, in action units."""
        return self.positions.mean(0)

    def forward(self, features: Tensor, base: Tensor) -> Tensor:
        """``features (B, F)``, ``base (B, h, D)`` -> ``(E, B, N)``."""
        outputs = torch.stack([network.outputs(features, base) for network in self.networks])  # type: ignore[operator]
        return outputs[..., :1] + F.pad(outputs[..., 1:], (1, 0))

    def commands(self, chunk: Tensor) -> Tensor:
        """Of the grippers in chunks ``(..., D)``: ``(..., G)``."""
        return chunk[..., self.grippers]

    def options(self, base: Tensor) -> Tensor:
        """The grippers' commands under each decision: ``base (B, h, D)`` -> ``(B, N, h, G)``."""
        step = torch.arange(base.shape[-2], device=base.device)
        told = (self.position != BASE).unsqueeze(1) & (step.unsqueeze(-1) >= self.start.unsqueeze(1))
        wanted = torch.where(self.position == HIGH, self.positions[1], self.positions[0]).unsqueeze(1)
        return torch.where(told, wanted, self.commands(base).unsqueeze(1))

    def carried_out(self, base: Tensor, decision: Tensor) -> Tensor:
        """The reference chunk ``(B, h, D)`` with the grippers' commands as decided ``(B,)``."""
        commands = self.options(base)[torch.arange(len(base), device=base.device), decision]
        return base.index_copy(-1, self.grippers, commands)


def joint_decisions(grippers: int, moments: int, horizon: int) -> list[list[tuple[int, int]]]:
    """Every combination of (position, first step) for each gripper; that of :data:`BASE` for all of them comes first.

    With one moment: 3 for one gripper and 9 for two, as in HIL-SERL.
    """
    starts = sorted({moment * horizon // moments for moment in range(moments)})
    alone = [(BASE, 0), *((position, start) for start in starts for position in (LOW, HIGH))]
    return [list(joint) for joint in product(alone, repeat=grippers)]
