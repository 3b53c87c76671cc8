"""An episode: what the robot records, what travels to the learner and lies in a LeRobotDataset, and what the replay memory keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from ..finite import not_finite
from .frame_columns import FRAME_COLUMNS
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
class Episode:
    """``T`` frames as the robot or environment gave them: frame ``t`` is observation, the action executed there, and what followed.

    One class from the robot to the replay memory. It is recorded, sent, stored and read again without ``cached``, which the learner fills in.

    Three facts about the end, never mixed: ``terminated`` (a success or failure state was reached after the last action: nothing
    follows, do not bootstrap); ``truncated`` (the time limit was reached: bootstrap from the last observation); neither (the data end
    here, for example where a person took over: also bootstrap from the last observation).

    To add a column for each frame: (1) a field here and its line in :data:`.FRAME_COLUMNS`, from which message, dataset, slices and the memory's
    column follow; (2) whoever records it, ``actor/rollout.py: _Frames``; (3) if an update uses it, ``ReplayMemory.windows`` and :class:`.Batch`.

    Attributes:
        observation: key -> ``(T, ...)``; images uint8 ``(T, C, H, W)``, decoded when they are asked for; everything else float32.
        action: ``(T, D)`` float32, the actions that were executed, raw units.
        reward: ``(T,)`` float32, following each action.
        intervention: ``(T,)`` bool, the action was a person's.
        terminated, truncated: of the last frame.
        task: in words.
        info: what the actor process reports of the episode (numbers and short strings).
        plan_action: ``(T, D)`` float32, what the base policy planned for each step, raw units.
        plan_age: ``(T,)`` int64, steps since that plan was made; -1 at frames without a plan.
        cached: name -> ``(T, ...)``, what the learner computes once of each frame (``online/feature_cache.py``), and images that learning reads.

    Raises:
        ValueError: columns of different lengths, or an episode that is terminated and truncated.
    """

    observation: Mapping[str, Frames]
    action: Tensor
    reward: Tensor
    intervention: Tensor
    terminated: bool
    truncated: bool
    task: str = ""
    info: Mapping[str, float | int | str] = field(default_factory=dict)
    cached: Mapping[str, Frames] = field(default_factory=dict)
    plan_action: Tensor = field(default_factory=lambda: torch.empty(0))
    plan_age: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        for column in FRAME_COLUMNS:
            if column.optional and not len(getattr(self, column.name)):
                object.__setattr__(self, column.name, column.absent(len(self), self.action.shape[-1]))
        optional = {column.name: getattr(self, column.name) for column in FRAME_COLUMNS if column.optional}
        lengths = [(name, len(value)) for columns in (self.kept, optional, self.observation) for name, value in columns.items()]
        if len({length for _, length in lengths}) != 1:
            raise ValueError(f"All columns of an episode need the same number of frames, got {lengths}.")
        if self.terminated and self.truncated:
            raise ValueError("An episode is terminated or truncated, not both.")

    def __len__(self) -> int:
        return len(self.action)

    @property
    def steps(self) -> int:
        """Usable transitions: the last frame of an episode that did not terminate serves as the observation to bootstrap from."""
        return len(self) if self.terminated else len(self) - 1

    @property
    def kept(self) -> dict[str, Frames]:
        """What the replay memory keeps of each frame: the recorded columns, and what is cached, which takes the place of one of its name."""
        return {**{column.name: getattr(self, column.name) for column in FRAME_COLUMNS if column.is_kept}, **self.cached}

    @property
    def is_finite(self) -> bool:
        """Whether no number that the replay memory would keep is NaN or infinite."""
        return not_finite(self.kept) is None

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

    def slice(self, start: int, stop: int, terminated: bool | None = None) -> "Episode":
        """Frames ``start <= t < stop``; the ends are kept only if the last frame is included ("the data end here" otherwise).

        ``terminated`` says otherwise whether the slice's last frame ends it.
        """

        def cut(values: Mapping[str, Frames]) -> dict[str, Any]:
            return {name: value.narrow(0, start, stop - start) for name, value in values.items()}

        last = stop == len(self)
        return replace(
            self,
            observation=cut(self.observation),
            cached=cut(self.cached),
            terminated=self.terminated and last if terminated is None else terminated,
            truncated=self.truncated and last and not terminated,
            **cut({column.name: getattr(self, column.name) for column in FRAME_COLUMNS}),
        )


def policy_input(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored observations as the policy takes them: images uint8 -> float in [0, 1]."""
    return {key: value.float() / 255.0 if value.dtype == torch.uint8 else value.float() for key, value in observation.items()}
