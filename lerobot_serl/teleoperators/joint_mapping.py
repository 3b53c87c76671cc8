"""Motor counts of a joint leader to the joint angles of the arm, and back. Numbers in, numbers out; no motor bus."""

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import ArrayLike, NDArray

COUNTS_PER_TURN = 4096
RAD_PER_COUNT = 2 * pi / COUNTS_PER_TURN


@dataclass(frozen=True, eq=False)
class JointMapping:
    """Of motors in the order of the arm's joints.

    Args:
        home_counts: (N,) counts in the home pose.
        home_rad: (N,) the arm's angles in that pose.
        signs: (N,) 1 where motor and joint turn alike, -1 where they do not.
        offset_rad: (N,) added to the angles, for a leader whose parts are not quite mounted as the arm's.
    """

    home_counts: NDArray[np.int64]
    home_rad: NDArray[np.float64]
    signs: NDArray[np.int64]
    offset_rad: NDArray[np.float64]

    def radians(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Return the arm's angles (N,) for motor counts (N,)."""
        return self.home_rad + self.signs * (np.asarray(counts) - self.home_counts) * RAD_PER_COUNT + self.offset_rad

    def counts(self, radians: ArrayLike) -> NDArray[np.int64]:
        """Return the nearest motor counts (N,) for the arm's angles (N,)."""
        turned = self.signs * (np.asarray(radians) - self.home_rad - self.offset_rad) / RAD_PER_COUNT
        return self.home_counts + np.rint(turned).astype(np.int64)

    def on_the_turn_of(self, counts: ArrayLike) -> "JointMapping":
        """Return the mapping that puts every joint within half a turn of home at `counts` (N,).

        A motor forgets whole turns when it loses power. From one session to the next its counts differ by multiples of a turn.
        """
        return JointMapping(nearest_turn(self.home_counts, counts), self.home_rad, self.signs, self.offset_rad)


@dataclass(frozen=True)
class GripperMapping:
    """Of the trigger motor.

    Args:
        open_counts: counts when the trigger is released.
        closed_counts: counts when it is pulled.
        is_flipped: False gives 0 open to 1 closed, as `franka_sim` has it; True gives 1 open to 0 closed.
    """

    open_counts: int
    closed_counts: int
    is_flipped: bool

    def __post_init__(self) -> None:
        if self.open_counts == self.closed_counts:
            raise ValueError(f"the gripper is open and closed at {self.open_counts} counts; calibrate it again and pull the trigger fully")

    def position(self, counts: float) -> float:
        """Return the position, 0 to 1."""
        closure = (counts - self.open_counts) / (self.closed_counts - self.open_counts)
        closure = min(max(closure, 0.0), 1.0)
        return 1.0 - closure if self.is_flipped else closure

    def on_the_turn_of(self, counts: int) -> "GripperMapping":
        """Return the mapping whose middle is within half a turn of `counts`; see `JointMapping.on_the_turn_of`."""
        middle = (self.open_counts + self.closed_counts) // 2
        shift = int(nearest_turn(np.array([middle]), [counts])[0]) - middle
        return GripperMapping(self.open_counts + shift, self.closed_counts + shift, self.is_flipped)


def nearest_turn(home_counts: NDArray[np.int64], counts: ArrayLike) -> NDArray[np.int64]:
    """Return `home_counts` (N,) plus the whole turns that bring them within half a turn of `counts` (N,)."""
    turns = np.rint((np.asarray(counts) - home_counts) / COUNTS_PER_TURN).astype(np.int64)
    return home_counts + turns * COUNTS_PER_TURN
