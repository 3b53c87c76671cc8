"""A recorded episode in raw units: what travels from robot to learner and lies in a LeRobotDataset."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Recording:
    """``T`` frames as the robot or environment gave them.

    Attributes:
        observation: key -> ``(T, ...)``; images uint8 ``(T, C, H, W)``, everything else float32.
        action: ``(T, D)`` float32, the actions that were executed, raw units.
        reward: ``(T,)`` float32.
        intervention: ``(T,)`` bool.
        terminated, truncated: how it ended; neither means that the data end here.
        task: in words.
        info: what the actor process reports of the episode (numbers and short strings).
    """

    observation: Mapping[str, Tensor]
    action: Tensor
    reward: Tensor
    intervention: Tensor
    terminated: bool
    truncated: bool
    task: str = ""
    info: Mapping[str, float | int | str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.action)

    @property
    def success(self) -> bool:
        """Ended in a rewarded termination."""
        return self.terminated and bool(self.reward[-1] > 0)


def policy_input(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored observations as the policy takes them: images uint8 -> float in [0, 1]."""
    return {key: value.float() / 255.0 if value.dtype == torch.uint8 else value.float() for key, value in observation.items()}
