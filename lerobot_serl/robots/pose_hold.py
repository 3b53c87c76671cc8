"""The pose that displacements count from."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class PoseHold:
    """The measured pose, but what is not to move stays where that wish began: an arm that gives way under its load is not followed down.

    Args:
        reach_m: the held position comes after the arm where that was pushed farther away along an axis.
    """

    def __init__(self, reach_m: float) -> None:
        self._reach_m = reach_m
        self.forget()

    def forget(self) -> None:
        """Something else moved the arm."""
        self._position_m: Matrix | None = None
        self._rotation: Matrix | None = None

    def origin(self, displacement: Matrix, measured: Matrix) -> Matrix:
        """Return the pose (4, 4) to which a displacement is added.

        Args:
            displacement: (3,) along the axes, or (6,) with rotations; where all three are 0, nothing is to move.
            measured: (4, 4) pose of the end effector now.
        """
        self._position_m = None if displacement[:3].any() else _first(self._position_m, measured[:3, 3])
        self._rotation = None if displacement[3:].any() else _first(self._rotation, measured[:3, :3])
        origin = measured.copy()
        if self._position_m is not None:
            self._position_m = np.clip(self._position_m, measured[:3, 3] - self._reach_m, measured[:3, 3] + self._reach_m)
            origin[:3, 3] = self._position_m
        if self._rotation is not None:
            origin[:3, :3] = self._rotation
        return origin


def _first(held: Matrix | None, measured: Matrix) -> Matrix:
    return measured.copy() if held is None else held
