"""Two simulated Pandas behind LeRobot's `Robot` interface: `--robot.type=bi_franka_sim`.

Keys are those of `franka_sim` with `left_` or `right_` before them, as in LeRobot's own two-armed robots.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from lerobot.robots import Robot
from lerobot.utils import check_if_not_connected
from numpy.typing import NDArray

from ..envs.simulated_arm import Registry
from .config_bi_franka_sim_robot import RIGHT_SEED_OFFSET, SIDES, BiFrankaSimRobotConfig
from .franka_sim_robot import FrankaSimRobot
from .uncalibrated import Uncalibrated


class BiFrankaSimRobot(Uncalibrated, Robot):
    """Two `FrankaSimRobot` that begin anew together. The task is done when both cubes are lifted.

    Attributes:
        arms: the two arms under "left" and "right".
    """

    config_class = BiFrankaSimRobotConfig
    name = "bi_franka_sim"

    def __init__(self, config: BiFrankaSimRobotConfig) -> None:
        super().__init__(config)
        self.config = config
        self.arms = {side: FrankaSimRobot(config.arm_config(side)) for side in SIDES}
        self.cameras = self._prefixed({side: arm.cameras for side, arm in self.arms.items()})
        bi_robots.add(self)

    @property
    def observation_features(self) -> dict[str, type | tuple[int, int, int]]:
        return self._prefixed({side: arm.observation_features for side, arm in self.arms.items()})

    @property
    def action_features(self) -> dict[str, type]:
        return self._prefixed({side: arm.action_features for side, arm in self.arms.items()})

    @property
    def is_connected(self) -> bool:
        return all(arm.is_connected for arm in self.arms.values())

    def connect(self, calibrate: bool = True) -> None:
        """Start both simulations; does nothing if they have been started.

        Raises:
            ModuleNotFoundError: the scene's files are not installed.
        """
        for arm in self.arms.values():
            arm.connect(calibrate)

    def disconnect(self) -> None:
        """End both simulations; does nothing if they have not been started."""
        for arm in self.arms.values():
            arm.disconnect()

    @check_if_not_connected
    def reset(self, seed: int | None = None) -> None:
        """Put both arms at home and both cubes on the floor.

        Args:
            seed: decides where the cubes lie; None takes the next places of the sequence that `config.seed` begins.
        """
        self.arms["left"].reset(seed)
        self.arms["right"].reset(None if seed is None else seed + RIGHT_SEED_OFFSET)

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        """Return the present observation; in lockstep this simulates nothing.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            RuntimeError: images are wanted and there is no OpenGL.
        """
        self._begin_anew_if_due()
        return self._prefixed({side: arm.get_observation() for side, arm in self.arms.items()})

    @check_if_not_connected
    def privileged_observation(self) -> dict[str, NDArray[np.float32]]:
        """Return "left_agent_pos" (18,), "left_environment_state" (3,) and the same of the right arm: for experts."""
        self._begin_anew_if_due()
        return self._prefixed({side: arm.privileged_observation() for side, arm in self.arms.items()})

    @check_if_not_connected
    def send_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Move both arms and return the action that is really carried out.

        Args:
            action: one number for each of `action_features`; other keys are ignored.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            ValueError: an entry is missing or not finite; then neither arm moves.
            RuntimeError: the physics diverged; call `reset`.
        """
        executable = self.executable_action(action)
        sent = {side: arm.send_action(_without_prefix(executable, side)) for side, arm in self.arms.items()}
        return self._prefixed(sent)

    @check_if_not_connected
    def executable_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Return what `send_action` would carry out now.

        Raises:
            ValueError: an entry is missing or not finite; the message names the arm.
        """
        self._begin_anew_if_due()
        executable = {}
        for side, arm in self.arms.items():
            try:
                executable[side] = arm.executable_action(_without_prefix(action, side))
            except ValueError as error:
                raise ValueError(f"{side} arm, whose keys begin with '{side}_': {error}") from error
        return self._prefixed(executable)

    @property
    def success(self) -> bool:
        """Whether both cubes are lifted and held now."""
        return all(arm.success for arm in self.arms.values())

    @property
    def attempt_time_s(self) -> float:
        """Simulated seconds since the attempt began."""
        return self.arms["left"].attempt_time_s

    @property
    def n_attempts_begun(self) -> int:
        """Attempts since `connect`, the present one included."""
        return self.arms["left"].n_attempts_begun

    def _begin_anew_if_due(self) -> None:
        """Begin anew after a joint success; the arms themselves see to time and episodes."""
        lifted_for_s = min(arm.lifted_for_s for arm in self.arms.values())
        if 0.0 < self.config.reset_after_success_s <= lifted_for_s:
            self.reset()

    def _prefixed(self, by_side: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {f"{side}_{key}": value for side, values in by_side.items() for key, value in values.items()}


bi_robots: Registry[BiFrankaSimRobot] = Registry("two-armed simulated robot", "--robot.type=bi_franka_sim")


def _without_prefix(values: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Return the entries of one arm under the arm's own keys."""
    return {key.removeprefix(f"{side}_"): value for key, value in values.items() if key.startswith(f"{side}_")}
