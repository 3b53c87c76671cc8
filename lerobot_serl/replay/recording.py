"""A recorded episode in raw units: what travels from robot to learner and lies in a LeRobotDataset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from .lazy_frames import Frames

DECIDED_BY, ACTED_AS, SAID_SUCCESS = "decided_by", "acted_as", "success"


class Decider(Enum):
    """Who ended an episode. Its place in this list is the number that a dataset's ``next.decided_by`` holds at the last frame."""

    NOBODY = "nobody"
    ENVIRONMENT = "environment"
    ROBOT = "robot"
    PERSON = "person"
    REWARD_MODEL = "reward model"
    FUNCTION = "function"
    TIME_LIMIT = "time limit"

    @property
    def number(self) -> int:
        """What is stored; never renumber."""
        return list(Decider).index(self)


class ActedAs(Enum):
    """What the policy was in an episode of practice: the collecting policy, the policy as it would be deployed, or ACT."""

    EXPLORING = "exploring"
    DEPLOYED = "deployed"
    ACT = "ACT"


@dataclass(frozen=True, eq=False)
class Recording:
    """``T`` frames as the robot or environment gave them.

    Attributes:
        observation: key -> ``(T, ...)``; images uint8 ``(T, C, H, W)``, decoded when they are asked for; everything else float32.
        action: ``(T, D)`` float32, the actions that were executed, raw units.
        reward: ``(T,)`` float32.
        intervention: ``(T,)`` bool.
        terminated, truncated: how it ended; neither means that the data end here.
        task: in words.
        info: what the actor process reports of the episode (numbers and short strings).
    """

    observation: Mapping[str, Frames]
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
    def decided_by(self) -> Decider:
        """Who ended it, as the actor process reports it; nobody if it does not say, or says something else."""
        name = self.info.get(DECIDED_BY)
        return next((decider for decider in Decider if decider.value == name), Decider.NOBODY)

    @property
    def acted_as(self) -> ActedAs:
        """What the policy was, as the actor process reports it; the collecting policy if it does not say, or says something else."""
        name = self.info.get(ACTED_AS)
        return next((acted_as for acted_as in ActedAs if acted_as.value == name), ActedAs.EXPLORING)

    @property
    def success(self) -> bool:
        """Ended in a rewarded termination; where an environment pays rewards of its own and says what success is, in one of these."""
        said = self.info.get(SAID_SUCCESS)
        return self.terminated and (bool(said) if isinstance(said, int | float) else bool(self.reward[-1] > 0))

    @property
    def success_alone(self) -> bool:
        """A success to which no person lent a hand: what a curve of the policy's success counts."""
        return self.success and not bool(self.intervention.any())


def policy_input(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored observations as the policy takes them: images uint8 -> float in [0, 1]."""
    return {key: value.float() / 255.0 if value.dtype == torch.uint8 else value.float() for key, value in observation.items()}
