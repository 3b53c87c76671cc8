"""Where displacements of a Franka arm's tool lead. No I/O."""

import numpy as np
from numpy.typing import NDArray

from ..franka.kinematics import matrix_of_rotvec, rotvec_of_matrix
from .config_franka import TRANSLATION_KEYS, FrankaConfig

Vector = NDArray[np.float64]
N_TRANSLATIONS = len(TRANSLATION_KEYS)


class ToolAim:
    """SERL's semantics: the target is the measured pose and the displacement, so it never runs away from the arm.

    An arm under load comes to rest below its target. So what nobody displaces keeps its first target, the whole pose or the orientation;
    targets made anew from the measured pose would follow the arm down.

    Attributes:
        rotation: (3, 3) the orientation that is held while the action has no rotations; None before the first.
    """

    def __init__(self, config: FrankaConfig) -> None:
        self._config = config
        self.forget()

    def forget(self) -> None:
        """The arm has been, or may have been, moved in another way."""
        self.rotation: Vector | None = None
        self._held: Vector | None = None

    def aim(self, measured: Vector, values: Vector) -> tuple[Vector, Vector]:
        """Two poses (4, 4): the one that the displacement counts from, and the target.

        Args:
            measured: (4, 4) pose now.
            values: (3,) or (6,) displacement, -1 to 1.
        """
        if values.any():
            self._held = None
        elif self._held is not None:
            return self._held, self._held
        target = self._displaced(measured, values)
        if not values.any():
            self._held = target
        return measured, target

    def displacement(self, origin: Vector, target: Vector) -> Vector:
        """What leads from one pose (4, 4) to another: (3,), or (6,) with `ee_rotation`."""
        way = (target[:3, 3] - origin[:3, 3]) / self._config.ee_step_m
        if not self._config.ee_rotation:
            return way
        return np.concatenate([way, rotvec_of_matrix(target[:3, :3] @ origin[:3, :3].T) / self._config.ee_step_rad])

    def _displaced(self, measured: Vector, values: Vector) -> Vector:
        """In the box; from outside, one step at a time leads back."""
        config, turns = self._config, values[N_TRANSLATIONS:]
        here_m, target = measured[:3, 3], measured.copy()
        in_box_m = np.clip(here_m + values[:N_TRANSLATIONS] * config.ee_step_m, config.workspace_min, config.workspace_max)
        target[:3, 3] = np.clip(in_box_m, here_m - config.ee_step_m, here_m + config.ee_step_m)
        if turns.size:
            target[:3, :3] = matrix_of_rotvec(turns * config.ee_step_rad) @ measured[:3, :3]
        else:
            self.rotation = measured[:3, :3] if self.rotation is None else self.rotation
            target[:3, :3] = self.rotation
        return target
