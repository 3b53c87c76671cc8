"""The scripted expert behind LeRobot's `Teleoperator` interface: `--teleop.type=franka_sim_expert`.

It picks up the cube, lifts it to `HOLD_HEIGHT_M` and holds it there until the robot begins anew. It sees the simulation itself, so
it finds the robot in its own process; that robot need not expose the cube.
"""

from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator
from lerobot.utils.errors import DeviceNotConnectedError

from ..envs.expert_franka_sim import ScriptedExpert
from ..robots.config_franka_sim_robot import ACTION_KEYS
from ..robots.franka_sim_robot import FrankaSimRobot, find_robot
from .config_franka_sim_expert import FrankaSimExpertConfig

HOLD_HEIGHT_M = 0.2


class FrankaSimExpert(Teleoperator):
    """Moves as `ScriptedExpert` does, in the robot's control mode."""

    config_class = FrankaSimExpertConfig
    name = "franka_sim_expert"

    def __init__(self, config: FrankaSimExpertConfig) -> None:
        super().__init__(config)
        self.config = config
        self._robot: FrankaSimRobot | None = None
        self._expert: ScriptedExpert | None = None

    @property
    def action_features(self) -> dict[str, type]:
        """The robot's; while there is no robot, those of its default control mode."""
        return dict.fromkeys(ACTION_KEYS["joint"], float) if self._robot is None else self._robot.action_features

    @property
    def feedback_features(self) -> dict[str, type]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self._robot is not None

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None:
        """Do nothing: there is nothing to calibrate."""

    def configure(self) -> None:
        """Do nothing: there is nothing to configure."""

    def connect(self, calibrate: bool = True) -> None:
        """Find the robot, which has to exist but may be connected later; does nothing if it has been found.

        Raises:
            LookupError: this process has no such simulated robot, or several.
        """
        if self.is_connected:
            return
        robot = find_robot(self.config.robot_id)
        self._expert = ScriptedExpert(robot.config.control_mode, robot.config.fps, self.config.noise_std, self.config.seed)
        self._robot = robot

    def get_action(self) -> dict[str, float]:
        """Return the expert's action for the robot's present state, within what the robot can carry out.

        Raises:
            DeviceNotConnectedError: `connect` has not been called, here or at the robot.
        """
        robot = self._robot
        if robot is None or self._expert is None:
            raise DeviceNotConnectedError("FrankaSimExpert is not connected. Run `.connect()` first.")
        observation = robot.privileged_observation()
        values = self._expert.act(observation)
        if robot.success and robot.scene.tcp_position_m[2] >= HOLD_HEIGHT_M:
            stay = robot.scene.joint_positions_rad if robot.config.control_mode == "joint" else np.zeros(3)
            values = np.array([*stay, 1.0], dtype=np.float32)
        return robot.executable_action(dict(zip(robot.config.action_keys, values.tolist(), strict=True)))

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Do nothing: the expert feels nothing."""

    def disconnect(self) -> None:
        """Let go of the robot; calling it again does nothing."""
        self._robot = self._expert = None
