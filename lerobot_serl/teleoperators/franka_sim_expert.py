"""The scripted expert behind LeRobot's `Teleoperator` interface: `--teleop.type=franka_sim_expert`.

It picks up the cube, lifts it to `HOLD_HEIGHT_M` and holds it there until the robot begins anew. It sees the simulation itself, so
it finds the robot or environment in its own process, which need not expose the cube.
"""

from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator
from lerobot.utils import DeviceNotConnectedError

from ..envs.expert_franka_sim import ScriptedExpert
from ..envs.simulated_arm import SimulatedArm, simulated_arms
from ..robots.config_franka_sim_robot import ACTION_KEYS
from ..robots.uncalibrated import Uncalibrated
from .config_franka_sim_expert import FrankaSimExpertConfig
from .events import intervention_events
from .scripted_takeover import ScriptedTakeover

HOLD_HEIGHT_M = 0.2
GRIPPER_KEY = "gripper.pos"
# Below this height of the tool, what stands beside the cube will not pick it up.
COME_DOWN_HEIGHT_M = 0.1


class FrankaSimExpert(Uncalibrated, Teleoperator):
    """Moves as `ScriptedExpert` does, in the arm's control mode; takes over as `ScriptedTakeover` says."""

    config_class = FrankaSimExpertConfig
    name = "franka_sim_expert"
    scripted = True  # needs no real time

    def __init__(self, config: FrankaSimExpertConfig) -> None:
        super().__init__(config)
        self.config = config
        self._found_arm: SimulatedArm | None = None

    @property
    def action_features(self) -> dict[str, type]:
        """The arm's; while none has been found, those of the robot's default control mode."""
        return dict.fromkeys(ACTION_KEYS["joint"] if self._found_arm is None else self._found_arm.action_keys, float)

    @property
    def feedback_features(self) -> dict[str, type]:
        """The gripper's: it sees the gripper itself, so its wish counts from the takeover on."""
        return {GRIPPER_KEY: float}

    @property
    def is_connected(self) -> bool:
        return self._found_arm is not None

    def connect(self, calibrate: bool = True) -> None:
        """Find the arm, which has to exist but may be connected later; does nothing if it has been found.

        Raises:
            LookupError: this process has no such simulated arm, or several.
        """
        if self.is_connected:
            return
        config = self.config
        arm = simulated_arms.find(config.robot_id)
        self._expert = ScriptedExpert(arm.control_mode, arm.fps, config.noise_std, config.seed)
        self._takeover = ScriptedTakeover(config.takeover_share, config.takeover_after_s, config.takeover_for_s, config.seed)
        self._found_arm = arm

    def get_action(self) -> dict[str, float]:
        """Return the expert's action for the arm's present state, within what the arm can carry out.

        Raises:
            DeviceNotConnectedError: `connect` has not been called, here or at the robot.
        """
        arm = self._arm
        observation = arm.privileged_observation()
        values = self._expert.act(observation)
        if arm.success and arm.scene.tcp_position_m[2] >= HOLD_HEIGHT_M:
            stay = arm.scene.joint_positions_rad if arm.control_mode == "joint" else np.zeros(3)
            values = np.array([*stay, 1.0], dtype=np.float32)
        return arm.executable_action(dict(zip(arm.action_keys, values.tolist(), strict=True)))

    def get_teleop_events(self) -> dict[str, Any]:
        """Return whether the expert takes over now, under LeRobot's `TeleopEvents`; it never ends an episode. Ask at every step.

        Raises:
            DeviceNotConnectedError: `connect` has not been called, here or at the robot.
        """
        return intervention_events(self._takeover.is_due(self._arm, self._is_missing()))

    def _is_missing(self) -> bool:
        scene = self._arm.scene
        tcp_m, cube_m = scene.tcp_position_m, scene.block_position_m
        beside_m = float(np.linalg.norm(tcp_m[:2] - cube_m[:2]))
        least_m = self.config.takeover_beside_m
        return least_m == 0 or bool(tcp_m[2] < COME_DOWN_HEIGHT_M and beside_m >= least_m)

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Do nothing: the expert sees the simulation."""

    def disconnect(self) -> None:
        """Let go of the arm; calling it again does nothing."""
        self._found_arm = None

    @property
    def _arm(self) -> SimulatedArm:
        if self._found_arm is None:
            raise DeviceNotConnectedError("FrankaSimExpert is not connected. Run `.connect()` first.")
        return self._found_arm
