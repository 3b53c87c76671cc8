"""What an episode records of each frame beside the observation: message, dataset, slices and replay memory follow from this table."""

from typing import NamedTuple

import numpy as np
import torch
from lerobot.utils.constants import ACTION
from torch import Tensor

from .labels import INTERVENTION, REWARD

PLAN_ACTION, PLAN_AGE = "plan.action", "plan.age"
NO_PLAN = -1
"""Age at frames without a plan: a person moved the robot, or it waited."""


class FrameColumn(NamedTuple):
    """One column.

    Attributes:
        name: of the field of :class:`.Episode`, of the message's tensor and of the replay memory's column.
        dtype: there.
        key: its feature in a LeRobotDataset.
        per_entry: one number for each entry of the action, ``(T, D)``; otherwise one for each frame, ``(T,)``.
        default: what holds where a dataset lacks the column.
        optional: messages may lack it, since an earlier release did not send it; the default holds then.
        is_kept: the replay memory has it.
    """

    name: str
    dtype: torch.dtype
    key: str
    per_entry: bool = False
    default: float = 0.0
    optional: bool = False
    is_kept: bool = True

    def shape(self, frames: int, action_dim: int) -> tuple[int, ...]:
        """Of so many frames."""
        return (frames, action_dim) if self.per_entry else (frames,)

    def absent(self, frames: int, action_dim: int) -> Tensor:
        """So many frames of the default."""
        return torch.full(self.shape(frames, action_dim), self.default, dtype=self.dtype)

    def row(self, value: Tensor) -> np.ndarray:
        """One frame's value as LeRobot takes it: ``(D,)`` or ``(1,)``."""
        return np.atleast_1d(value.numpy())


FRAME_COLUMNS = (
    FrameColumn("action", torch.float32, ACTION, per_entry=True),
    FrameColumn("reward", torch.float32, REWARD),
    FrameColumn("intervention", torch.bool, INTERVENTION),
    # What the base policy planned for this step, and the plan's age; the action itself, and NO_PLAN, where it had no plan.
    FrameColumn("plan_action", torch.float32, PLAN_ACTION, per_entry=True, optional=True, is_kept=False),
    FrameColumn("plan_age", torch.int64, PLAN_AGE, default=NO_PLAN, optional=True, is_kept=False),
)
