"""What an actor process acts in. One rollout loop serves every world."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..replay.episode import Decider

Observation = dict[str, Tensor]
# Of an observation as a robot or environment gave it, and the executed action, by name.
Observer = Callable[[Mapping[str, Any], Mapping[str, float]], None]


class WorldError(RuntimeError):
    """The world can not go on; the arm is still. The message says why and what to do."""


class EpisodeSpoilt(WorldError):  # noqa: N818
    """This episode must not be learnt from, but another one may be tried."""


@dataclass(frozen=True, eq=False)
class StepResult:
    """What followed an action.

    Attributes:
        observation: as :meth:`World.reset` returns it.
        executed: ``(D,)`` float32, the action that was really carried out.
        reward: following the action.
        terminated: a success or failure state was reached.
        truncated: the time limit was reached.
        decided_by: who ended the episode; nobody while it goes on.
        success: what an environment with rewards of its own says about it; None: a termination with a reward above 0 is one.
    """

    observation: Observation
    executed: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    decided_by: Decider = Decider.NOBODY
    success: bool | None = None


class World(Protocol):
    """A robot or an environment.

    Observations have LeRobot's keys: images uint8 ``(C, H, W)``, everything else float32 vectors.
    """

    task: str
    simulated: bool  # time stands still between two steps: whoever acts may take as long as it likes

    @property
    def measured(self) -> Mapping[str, float]:
        """Numbers of the last observation under the robot's own keys; empty where the world has no such names."""

    @property
    def longest_steps(self) -> int | None:
        """Of an episode; None: nobody knows."""

    def reset(self) -> Observation:
        """Begin an episode."""

    def step(self, action: np.ndarray) -> StepResult:
        """Carry out a raw action ``(D,)``."""

    def step_intervention(self, action: Mapping[str, float]) -> StepResult:
        """Carry out what a teleoperator asks for, under its keys."""

    def stay(self) -> StepResult:
        """Keep still for a step: there is nothing to do yet."""

    def hold(self) -> None:
        """Keep still where it is."""

    def report(self) -> Mapping[str, float | int | str]:
        """What there is to say of the episode that has just ended."""

    def close(self) -> None:
        """Stop and release everything; may be called twice."""
