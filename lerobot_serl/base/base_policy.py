"""What a base policy has to offer: a frozen policy whose chunks the actor edits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn


class Plan(NamedTuple):
    """What a base policy makes of observations.

    Attributes:
        actions: ``(B, n, D)`` in raw action units, the first for the newest frame.
        features: ``(B, F)`` that actor and critics may look at.
    """

    actions: Tensor
    features: Tensor


class BasePolicy(nn.Module, ABC):
    """Proposes chunks. It is never trained here, and always in eval mode.

    A plan depends on its own observation alone: not on earlier calls, on the rest of the batch or on chance. So the chunk that a robot
    begins with equals the one that the learner computes later for the recorded frame.

    Attributes:
        n_obs_steps: frames that a plan needs: the newest and those before it. With more than one, observations are ``(B, n_obs_steps, ...)``.
        longest_plan: steps that it can plan; None: any number.
        proposes: false where there is no base policy, and nothing to act with alone or to compare with.
    """

    proposes: bool = True
    n_obs_steps: int = 1
    longest_plan: int | None = None

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """Sizes of the groups of features in a plan; empty if it offers none."""
        return ()

    @property
    def pooled_sizes(self) -> tuple[int, ...]:
        """Sizes of the groups of :meth:`pooled`; empty if it offers none."""
        return ()

    def pooled(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Features ``(B, F)`` of newest frames, at a fraction of what a plan costs: what is seen while a plan is carried out."""
        first = next(iter(observation.values()))
        return first.new_zeros(len(first), 0)

    def newest(self, observation: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The last frame of an observation, key -> ``(B, ...)``."""
        return observation if self.n_obs_steps == 1 else {key: value[:, -1] for key, value in observation.items()}

    @abstractmethod
    def plan(self, observation: Mapping[str, Tensor], steps: int) -> Plan:
        """The first ``steps`` actions for each observation.

        Args:
            observation: raw features by the robot's names, images float in [0, 1].
            steps: at most :attr:`longest_plan`.
        """

    def freeze(self) -> None:
        """To be called by a subclass when it is complete."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "BasePolicy":
        """Stays in eval mode: dropout would make it another policy. LeRobot asks at every update."""
        return self
