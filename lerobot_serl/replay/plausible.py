"""Which numbers of an episode make sense. One that lies far outside all that the demonstrations hold is a fault of a sensor, or a lie.

Finite is not enough: of 1e30 ACT makes NaN, its square is infinite in 32 bits, and one such episode ends a run and every later one on its dataset.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from lerobot.utils.constants import ACTION
from torch import Tensor

from .episode import Episode
from .frame_columns import NO_PLAN, PLAN_ACTION, PLAN_AGE
from .labels import REWARD, pays_once_at_its_end

if TYPE_CHECKING:
    from lerobot.datasets import LeRobotDataset

# How far outside the demonstrations' range a number may lie, in widths of that range.
REACH = 100.0
# 32 bits hold the square of a number up to this, and the sum of many such squares.
LARGEST = 1e17
# A range is taken to be at least so wide: what stood still in the demonstrations may move. Rewards of practice may differ from theirs more.
_LEAST_WIDTH = {REWARD: 100.0}


def refused_episode(dataset: "LeRobotDataset", episode: int, flaw: str) -> ValueError:
    """The error for demonstrations with an episode that makes no sense, which keeps a run from starting."""
    return ValueError(
        f"Dataset {dataset.repo_id}: episode {episode}, {flaw}. Learning from it would destroy the critics; leave it out: "
        f"lerobot-serl-doctor {dataset.root} --repair"
    )


@dataclass(frozen=True, eq=False)
class Plausible:
    """Bounds of the numbers of an episode.

    Attributes:
        low, high: column -> ``(d,)`` smallest and largest number of each entry. Columns are those of a dataset: observations, action, reward.
        pays_once: rewards have to be 0 or 1, and only a termination may pay, since the critics' targets are clipped to [0, 1].
    """

    low: Mapping[str, np.ndarray] = field(default_factory=dict)
    high: Mapping[str, np.ndarray] = field(default_factory=dict)
    pays_once: bool = False

    @classmethod
    def around(cls, extremes: Mapping[str, tuple[np.ndarray, np.ndarray]], reach: float = REACH, pays_once: bool = False) -> Self:
        """Bounds around what was seen.

        Args:
            extremes: column -> ``(d,)`` smallest and ``(d,)`` largest number of each entry.
            reach: how far outside they lie, in widths of the range. An entry counts as wide as the widest of its column, and as its largest number.
        """
        low, high = {}, {}
        for key, (smallest, largest) in extremes.items():
            smallest, largest = np.asarray(smallest, np.float64).ravel(), np.asarray(largest, np.float64).ravel()
            sizes = np.maximum(np.abs(smallest), np.abs(largest))
            width = np.maximum(sizes, max(float((largest - smallest).max(initial=0.0)), _LEAST_WIDTH.get(key, 1.0)))
            low[key] = np.maximum(smallest - reach * width, -LARGEST)
            high[key] = np.minimum(largest + reach * width, LARGEST)
        return cls(low, high, pays_once)

    def flaw_of(self, episode: Episode) -> str | None:
        """What makes no sense in an episode, in words; None if there is nothing."""
        columns = {
            key: value.numpy() for key, value in episode.observation.items() if isinstance(value, Tensor) and value.is_floating_point()
        }
        ages = episode.plan_age
        if bad := ((ages < NO_PLAN) | (ages > len(episode))).nonzero()[:1].flatten().tolist():
            return f"frame {bad[0]}, '{PLAN_AGE}' is {int(ages[bad[0]])}, expected {NO_PLAN}, or 0 to the episode's length, {len(episode)}"
        columns |= {ACTION: episode.action.numpy(), PLAN_ACTION: episode.plan_action.numpy(), REWARD: episode.reward.numpy()}
        return self.flaw(columns, episode.terminated)

    def flaw(self, columns: Mapping[str, np.ndarray], terminated: bool) -> str | None:
        """The same, of columns ``(T, ...)``, the reward among them. What has no bounds may be as large as `LARGEST`."""
        for key, values in columns.items():
            flat = values.reshape(len(values), -1)
            like = ACTION if key == PLAN_ACTION else key
            low, high = self.low.get(like, -LARGEST), self.high.get(like, LARGEST)
            outside = ~((flat >= low) & (flat <= high))  # NaN is outside
            if outside.any():
                frame, entry = (int(index) for index in np.argwhere(outside)[0])
                smallest, largest = (float(np.broadcast_to(bound, flat.shape[1:])[entry]) for bound in (low, high))
                return f"frame {frame}, '{key}'[{entry}] is {flat[frame, entry]:g}, expected {smallest:g} to {largest:g}"
        reward = columns[REWARD]
        if self.pays_once and not pays_once_at_its_end(reward, terminated):
            return (
                f"rewards from {reward.min():g} to {reward.max():g}, {reward.sum():g} together; the demonstrations' are 0 or 1, at the end, so that "
                "the critics' targets are clipped to [0, 1], and would be wrong. Begin a new run with --policy.value_range='[LOWEST, HIGHEST]' "
                "of what an episode can return, or with --reward.source=success on the robot side"
            )
        return None
