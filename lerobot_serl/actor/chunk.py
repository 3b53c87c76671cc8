"""What a policy wants the robot to do next."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..replay.episode import ActedAs
from ..replay.frame_columns import NO_PLAN


class Step(NamedTuple):
    """One control step of a chunk.

    Attributes:
        action: ``(D,)`` raw.
        planned: ``(D,)`` raw, what the base policy planned for this step.
        age: of its plan, in steps; `NO_PLAN` without one.
    """

    action: np.ndarray
    planned: np.ndarray
    age: int


@dataclass(frozen=True, eq=False)
class Chunk:
    """The next steps.

    Attributes:
        actions: ``(n, D)`` float32, raw.
        choice: 0 ACT's own chunk, 1 the mean edit, 2 a sampled edit.
        edit_rms: size of the edit, in action units.
        acted_as: what the policy was; the same in all chunks of an episode.
        planned: ``(n, D)`` float32, raw, what the base policy planned; None: nothing was.
        age: of the plan at the first of these steps.
    """

    actions: np.ndarray
    choice: int
    edit_rms: float
    acted_as: ActedAs = ActedAs.EXPLORING
    planned: np.ndarray | None = None
    age: int = NO_PLAN

    def steps(self) -> Iterator[Step]:
        """One after the other."""
        for index, action in enumerate(self.actions):
            if self.planned is None:
                yield Step(action, action, NO_PLAN)
            else:
                yield Step(action, self.planned[index], self.age + index)
