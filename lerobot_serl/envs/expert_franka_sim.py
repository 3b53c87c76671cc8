"""Scripted expert for `franka_sim`: every action follows from the present observation alone.

An expert with a hidden phase counter cannot be imitated by a policy that sees only observations. This one reads its
phase off the observation instead: where the tool is relative to the cube, and how far the gripper has closed.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lerobot_serl.envs.config_franka_sim import ACTION_NAMES, STATE_NAMES
from lerobot_serl.envs.panda_scene import N_JOINTS, PandaScene
from lerobot_serl.envs.pick_cube import EE_SPEED_M_S

APPROACH_HEIGHT_M = 0.08
AROUND_CUBE_M = 0.015
HOLDING_CUBE_M = 0.03
GRASP_CLOSURE = 0.5
OPEN_CLOSURE = 0.2
_APPROACH_GAIN_PER_S = 4.0
_APPROACH_SPEED = 0.8
_LIFT_SPEED = 0.5
_GRIPPER = STATE_NAMES.index("gripper.pos")
_TCP = STATE_NAMES.index("tcp.x")


class ScriptedExpert:
    """Solves pick_cube in either control mode.

    Args:
        control_mode: "ee_delta" or "joint"; the action that `act` returns.
        fps: control frequency of the environment in Hz.
        noise_std: standard deviation of Gaussian noise on the tool displacement, as a fraction of the largest
            displacement per step. 0 makes `act` a pure function of the observation.
        seed: seed of that noise.

    Raises:
        ValueError: unknown control mode, or noise_std is negative or not finite.
    """

    def __init__(self, control_mode: str = "ee_delta", fps: int = 10, noise_std: float = 0.0, seed: int = 0) -> None:
        if control_mode not in ACTION_NAMES:
            raise ValueError(f"control_mode is {control_mode!r}, expected one of {tuple(ACTION_NAMES)}")
        if not 0 <= noise_std < math.inf:
            raise ValueError(f"noise_std is {noise_std}, expected a finite number of at least 0, for example 0.3")
        self.control_mode = control_mode
        self.noise_std = noise_std
        self._step_m = EE_SPEED_M_S / fps
        self._gain = _APPROACH_GAIN_PER_S / fps
        self._rng = np.random.default_rng(seed)
        self._kinematics = PandaScene(control_period_s=1 / fps) if control_mode == "joint" else None

    def act(self, observation: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the action for this observation: (4,) or (8,) float32, inside the action space.

        Args:
            observation: holds "agent_pos" (18,) and "environment_state" (3,), as in state mode or from
                `FrankaSimGym.privileged_observation()`.
        """
        state = np.asarray(observation["agent_pos"], dtype=np.float64)
        tcp_m, closure = state[_TCP : _TCP + 3], float(state[_GRIPPER])
        displacement, gripper = self._tool_motion(np.asarray(observation["environment_state"], dtype=np.float64) - tcp_m, closure)
        if self.noise_std > 0:
            displacement = displacement + self.noise_std * self._rng.standard_normal(3)
        displacement = np.clip(displacement, -1.0, 1.0)
        if self._kinematics is None:
            return np.array([*displacement, gripper], dtype=np.float32)
        joints_rad = self._kinematics.solve_ik(state[:N_JOINTS], tcp_m + displacement * self._step_m)
        return np.array([*joints_rad, gripper], dtype=np.float32)

    def _tool_motion(self, cube_m: NDArray[np.float64], closure: float) -> tuple[NDArray[np.float64], float]:
        """Return the tool displacement (3,) in action units and the gripper command.

        Args:
            cube_m: (3,) cube centre relative to the tool, in metres.
            closure: measured gripper position, 0 open to 1 closed.
        """
        aside_m = float(np.abs(cube_m[:2]).max())
        # The more the gripper has closed, the further the cube may be off before the attempt is given up.
        grasp = min(closure / GRASP_CLOSURE, 1.0)
        tolerance_m = AROUND_CUBE_M + grasp * (HOLDING_CUBE_M - AROUND_CUBE_M)
        if max(aside_m, abs(cube_m[2])) < tolerance_m:
            return np.array([0.0, 0.0, _LIFT_SPEED if grasp >= 1.0 else 0.0]), 1.0
        # Come down only as fast as the tool gets above the cube: a funnel, so that fingers never hit its side.
        height_m = APPROACH_HEIGHT_M * float(np.clip((aside_m - AROUND_CUBE_M / 2) / AROUND_CUBE_M, 0.0, 1.0))
        if closure > OPEN_CLOSURE:
            height_m = APPROACH_HEIGHT_M
        goal_m = cube_m + np.array([0.0, 0.0, height_m])
        return np.clip(self._gain * goal_m / self._step_m, -_APPROACH_SPEED, _APPROACH_SPEED), 0.0
