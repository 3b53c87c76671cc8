"""The task of `franka_sim`: what an action may do, where the cube begins, and when it counts as lifted.

The environment and the robot are two faces of this one object, so they agree to the bit.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lerobot_serl.envs.panda_scene import N_JOINTS, PandaScene

EE_SPEED_M_S = 0.25
JOINT_SPEED_RAD_S = 2.0
BLOCK_LOW_XY_M = (0.3, -0.15)
BLOCK_HIGH_XY_M = (0.5, 0.15)
LIFT_HEIGHT_M = 0.1
HELD_DISTANCE_M = 0.05

FloatArray = NDArray[np.float32]


class PickCube:
    """One arm at one cube. Call `begin`, then `aim` and `step` in turn.

    Args:
        control_mode: "joint", 7 absolute joint positions (rad), or "ee_delta", a displacement (3,) in `EE_SPEED_M_S / fps` metres; the
            gripper, 0 open to 1 closed, is the last entry of an action in both.
        fps: control frequency in Hz, which scales both limits.
        step_hz: steps per simulated second; None means `fps`.

    Attributes:
        scene: the physics.
        action_low: (D,) float32, least action.
        action_high: (D,) float32, greatest action.
        n_attempts_begun: calls of `begin` so far.
        n_steps: steps since the attempt began.
        gripper_target: what the gripper was last told, 0 open to 1 closed.
    """

    def __init__(self, control_mode: str, fps: int, step_hz: int | None = None) -> None:
        self._is_joint_mode = control_mode == "joint"
        self._ee_step_m = EE_SPEED_M_S / fps
        self._joint_step_rad = JOINT_SPEED_RAD_S / fps
        self._step_hz = step_hz or fps
        self.scene = PandaScene(1 / self._step_hz)
        low, high = -np.ones(3), np.ones(3)
        if self._is_joint_mode:
            low, high = self.scene.joint_low_rad, self.scene.joint_high_rad
        self.action_low = np.array([*low, 0.0], dtype=np.float32)
        self.action_high = np.array([*high, 1.0], dtype=np.float32)
        self.n_attempts_begun = self.n_steps = 0
        self.gripper_target = 0.0
        self._targets_rad = self.scene.joint_positions_rad
        self._block_start_z_m = 0.0

    def begin(self, rng: np.random.Generator) -> None:
        """Put the arm at home with the gripper open, and the cube at a place on the floor that `rng` decides."""
        self.scene.reset(block_xy_m=rng.uniform(BLOCK_LOW_XY_M, BLOCK_HIGH_XY_M))
        self.n_attempts_begun += 1
        self.n_steps = 0
        self._block_start_z_m = float(self.scene.block_position_m[2])
        self._targets_rad, self.gripper_target = self.scene.joint_positions_rad, 0.0

    def executable(self, action: FloatArray, names: tuple[str, ...]) -> FloatArray:
        """Return the action that the arm would follow now: (D,), clipped to the limits and, for joints, to what one period allows.

        Args:
            action: (D,) float32.
            names: of its entries, for the message.

        Raises:
            ValueError: an entry is not finite.
        """
        for name, value in zip(names, action, strict=True):
            if not np.isfinite(value):
                raise ValueError(f"action entry {name!r} is {value}, expected a finite number; check the policy or teleoperator")
        executed = np.clip(action, self.action_low, self.action_high)
        if self._is_joint_mode:
            measured_rad, step_rad = self.scene.joint_positions_rad, self._joint_step_rad
            executed[:N_JOINTS] = np.clip(executed[:N_JOINTS], measured_rad - step_rad, measured_rad + step_rad)
        return executed

    def aim(self, executed: FloatArray) -> None:
        """Have the servos follow an action (D,) from `executable` until the next one."""
        values = executed.astype(np.float64)
        if self._is_joint_mode:
            self._targets_rad = values[:N_JOINTS]
        else:
            self._targets_rad = self.scene.joint_targets_for_delta(values[:3] * self._ee_step_m)
        self.gripper_target = float(values[-1])

    def step(self) -> None:
        """Simulate one period.

        Raises:
            RuntimeError: the physics diverged; call `begin`.
        """
        self.scene.step(self._targets_rad, self.gripper_target)
        self.n_steps += 1

    @property
    def attempt_time_s(self) -> float:
        """Simulated seconds since the attempt began."""
        return self.n_steps / self._step_hz

    @property
    def is_lifted(self) -> bool:
        """Whether the cube is lifted and held now."""
        block_m = self.scene.block_position_m
        lifted = block_m[2] - self._block_start_z_m >= LIFT_HEIGHT_M
        return bool(lifted and np.linalg.norm(block_m - self.scene.tcp_position_m) < HELD_DISTANCE_M)

    def arm_state(self) -> FloatArray:
        """(18,) joint positions (rad), joint velocities (rad/s), gripper (0 open, 1 closed), tool xyz (m)."""
        scene = self.scene
        return np.concatenate(
            [scene.joint_positions_rad, scene.joint_velocities_rad_s, [scene.gripper_closure], scene.tcp_position_m]
        ).astype(np.float32)

    def privileged_observation(self) -> dict[str, FloatArray]:
        """Return "agent_pos" (18,), as `arm_state`, and "environment_state" (3,), the cube's position (m)."""
        return {"agent_pos": self.arm_state(), "environment_state": self.scene.block_position_m.astype(np.float32)}


class CubeSettings(Protocol):
    """Of an environment or robot."""

    control_mode: str
    fps: int


class AtOneCube:
    """What an environment and a robot both tell of their cube: a part of `SimulatedArm`. Not connected, a robot raises DeviceNotConnectedError."""

    config: CubeSettings

    @property
    def control_mode(self) -> str:
        """`joint` or `ee_delta`."""
        return self.config.control_mode

    @property
    def fps(self) -> int:
        """Control frequency in Hz."""
        return self.config.fps

    @property
    def scene(self) -> PandaScene:
        """The physics."""
        return self._present_cube().scene

    @property
    def success(self) -> bool:
        """Whether the cube is lifted and held now."""
        return self._present_cube().is_lifted

    @property
    def attempt_time_s(self) -> float:
        """Simulated seconds since the attempt began."""
        return self._present_cube().attempt_time_s

    @property
    def n_attempts_begun(self) -> int:
        """Attempts since it was made or connected, the present one included."""
        return self._present_cube().n_attempts_begun

    def _present_cube(self) -> PickCube:
        raise NotImplementedError
