"""A simulated Panda behind LeRobot's `Robot` interface: `--robot.type=franka_sim`.

The physics, limits and task are those of the environment `--env.type=franka_sim`. The commands that drive a robot know
no reset, so the robot begins anew by itself: when a command announces an episode, or after a time (`FrankaSimRobotConfig`).
"""

import logging
import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from lerobot.robots import Robot
from lerobot.utils.decorators import check_if_not_connected
from lerobot.utils.errors import DeviceNotConnectedError
from numpy.typing import NDArray

from ..envs.franka_sim import (
    BLOCK_HIGH_XY_M,
    BLOCK_LOW_XY_M,
    EE_SPEED_M_S,
    HELD_DISTANCE_M,
    JOINT_SPEED_RAD_S,
    LIFT_HEIGHT_M,
)
from ..envs.panda_scene import N_JOINTS, PandaScene
from .config_franka_sim_robot import BLOCK_KEYS, STATE_KEYS, FrankaSimRobotConfig

# LeRobot's log_say logs this at the beginning of each episode (0.6.x: lerobot-record, episodic lerobot-rollout).
EPISODE_ANNOUNCEMENT = "Recording episode"
REAL_TIME_RATE_HZ = 50
MAX_CATCH_UP_S = 1.0

logger = logging.getLogger(__name__)


class FrankaSimRobot(Robot):
    """One arm, one cube. Observations and actions are dictionaries of Python floats; images are uint8 arrays.

    Observations: `joint_1.pos` to `joint_7.pos` (rad), `joint_1.vel` to `joint_7.vel` (rad/s), `gripper.pos` (0 open, 1 closed),
    `tcp_x.pos`, `tcp_y.pos`, `tcp_z.pos` (m), on request `block_x.pos`, `block_y.pos`, `block_z.pos` (m) and the images.

    Actions: `joint_1.pos` to `joint_7.pos` (rad), or `delta_x.pos`, `delta_y.pos`, `delta_z.pos` (-1..1); and `gripper.pos`.

    Attributes:
        n_attempts: attempts that have ended since `connect`.
        n_lifted: those of them in which the cube was lifted.
    """

    config_class = FrankaSimRobotConfig
    name = "franka_sim"

    def __init__(self, config: FrankaSimRobotConfig) -> None:
        super().__init__(config)
        self.config = config
        self.cameras = config.camera_shapes
        self.n_attempts = 0
        self.n_lifted = 0
        self._n_placings = 0
        self._scene: PandaScene | None = None
        self._announcements: _EpisodeAnnouncements | None = None
        self._is_reset_due = False
        self._rate_hz = config.fps if config.lockstep else REAL_TIME_RATE_HZ
        self._clock = time.perf_counter
        _robots.add(self)

    @property
    def observation_features(self) -> dict[str, type | tuple[int, int, int]]:
        return {**dict.fromkeys(self.config.observation_keys, float), **self.config.camera_shapes}

    @property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys(self.config.action_keys, float)

    @property
    def is_connected(self) -> bool:
        return self._scene is not None

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None:
        """Do nothing: there is nothing to calibrate."""

    def configure(self) -> None:
        """Do nothing: there is nothing to configure."""

    def connect(self, calibrate: bool = True) -> None:
        """Start the simulation, with the arm at home and the cube placed; does nothing if it has been started.

        Raises:
            ModuleNotFoundError: the scene's files are not installed.
        """
        if self.is_connected:
            return
        self._scene = PandaScene(1 / self._rate_hz)
        self.n_attempts = self.n_lifted = self._n_placings = 0
        self._begin_attempt()
        if self.config.reset_with_episodes:
            self._announcements = _EpisodeAnnouncements(self)
            logging.getLogger().addHandler(self._announcements)

    def disconnect(self) -> None:
        """End the simulation; does nothing if it has not been started."""
        if self._announcements is not None:
            logging.getLogger().removeHandler(self._announcements)
            self._announcements = None
        if self._scene is not None:
            self._count_attempt()
            self._scene.close()
            self._scene = None

    @check_if_not_connected
    def reset(self, seed: int | None = None) -> None:
        """Put the arm at home with the gripper open, and the cube on the floor.

        Args:
            seed: decides where the cube lies; None takes the next place of the sequence that `config.seed` begins.
        """
        self._count_attempt()
        self._begin_attempt(seed)

    def reset_before_next_use(self) -> None:
        """Reset as soon as the robot is observed or moved, unless it has not moved since it was reset. Any thread may call this."""
        self._is_reset_due = True

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        """Return the present observation; in lockstep this simulates nothing.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            RuntimeError: images are wanted and there is no OpenGL.
        """
        self._bring_up_to_date()
        values = dict(zip(STATE_KEYS, self._state().tolist(), strict=True))
        if self.config.expose_block:
            values |= dict(zip(BLOCK_KEYS, self._block().tolist(), strict=True))
        height_px, width_px = self.config.image_height_px, self.config.image_width_px
        return {**values, **{camera: self.scene.render(camera, height_px, width_px) for camera in self.cameras}}

    @check_if_not_connected
    def privileged_observation(self) -> dict[str, NDArray[np.float32]]:
        """Return "agent_pos" (18,) and "environment_state" (3,) as the environment does, whatever is exposed: for experts."""
        self._bring_up_to_date()
        return {"agent_pos": self._state(), "environment_state": self._block()}

    @check_if_not_connected
    def send_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Move, in lockstep for `1 / fps` seconds, and return the action that is really carried out.

        Args:
            action: one number for each of `action_features`; other keys are ignored.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            ValueError: an entry is missing or not finite.
            RuntimeError: the physics diverged; call `reset`.
        """
        executed = self.executable_action(action)
        values = np.array(list(executed.values()), dtype=np.float32).astype(np.float64)
        if self.config.control_mode == "ee_delta":
            self._targets_rad = self.scene.joint_targets_for_delta(values[:3] * (EE_SPEED_M_S / self.config.fps))
        else:
            self._targets_rad = values[:N_JOINTS]
        self._closure = float(values[-1])
        if self.config.lockstep:
            self._step()
        return executed

    @check_if_not_connected
    def executable_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Return what `send_action` would carry out now: clipped to the limits and, for joints, to what one period allows.

        Raises:
            ValueError: an entry is missing or not finite.
        """
        self._bring_up_to_date()
        keys = self.config.action_keys
        missing = [key for key in keys if key not in action]
        if missing:
            raise ValueError(f"the action lacks {missing}; robot.control_mode={self.config.control_mode} needs {keys}")
        values = np.array([float(action[key]) for key in keys], dtype=np.float32)
        for key, value in zip(keys, values, strict=True):
            if not np.isfinite(value):
                raise ValueError(f"action entry {key!r} is {value}, expected a finite number; check the policy or teleoperator")
        if self.config.control_mode == "joint":
            step_rad, measured_rad = JOINT_SPEED_RAD_S / self.config.fps, self.scene.joint_positions_rad
            limited = np.clip(values[:N_JOINTS], _float32(self.scene.joint_low_rad), _float32(self.scene.joint_high_rad))
            values[:N_JOINTS] = np.clip(limited, measured_rad - step_rad, measured_rad + step_rad)
        else:
            values[:3] = np.clip(values[:3], -1.0, 1.0)
        values[-1] = np.clip(values[-1], 0.0, 1.0)
        return dict(zip(keys, values.tolist(), strict=True))

    @property
    def scene(self) -> PandaScene:
        """The physics.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
        """
        if self._scene is None:
            raise DeviceNotConnectedError("FrankaSimRobot is not connected. Run `.connect()` first.")
        return self._scene

    @property
    def success(self) -> bool:
        """Whether the cube is lifted and held now."""
        block_m = self.scene.block_position_m
        lifted = block_m[2] - self._block_start_z_m >= LIFT_HEIGHT_M
        return bool(lifted and np.linalg.norm(block_m - self.scene.tcp_position_m) < HELD_DISTANCE_M)

    def _begin_attempt(self, seed: int | None = None) -> None:
        rng = np.random.default_rng(self.config.seed + self._n_placings if seed is None else seed)
        self.scene.reset(block_xy_m=rng.uniform(BLOCK_LOW_XY_M, BLOCK_HIGH_XY_M))
        self._n_placings += 1
        self._n_steps = self._n_lifted_steps = 0
        self._was_lifted = self._is_reset_due = False
        self._block_start_z_m = float(self.scene.block_position_m[2])
        self._targets_rad, self._closure = self.scene.joint_positions_rad, 0.0
        self._simulated_until_s = self._clock()

    def _count_attempt(self) -> None:
        """Count and report the attempt that ends now, if anything has been simulated in it."""
        if self._n_steps > 0:
            self.n_attempts += 1
            self.n_lifted += self._was_lifted
            result = "lifted" if self._was_lifted else "not lifted"
            logger.info("Attempt %d, %.1f s: %s; %d lifted so far", self.n_attempts, self._n_steps / self._rate_hz, result, self.n_lifted)

    def _bring_up_to_date(self) -> None:
        """Begin anew if that is due, and follow the wall clock if that is wanted."""
        lifted_for_long = 0.0 < self.config.reset_after_success_s <= self._n_lifted_steps / self._rate_hz
        lasted_long = 0.0 < self.config.reset_after_s <= self._n_steps / self._rate_hz
        if self._n_steps > 0 and (self._is_reset_due or lifted_for_long or lasted_long):
            self.reset()
        self._is_reset_due = False
        if not self.config.lockstep:
            self._follow_clock()

    def _follow_clock(self) -> None:
        """Simulate up to now, holding the last action; what goes beyond `MAX_CATCH_UP_S` is left out."""
        now_s = self._clock()
        self._simulated_until_s = max(self._simulated_until_s, now_s - MAX_CATCH_UP_S)
        while self._simulated_until_s + 1 / self._rate_hz <= now_s:
            self._step()
            self._simulated_until_s += 1 / self._rate_hz

    def _step(self) -> None:
        """Simulate one control period, or in real time one period of `REAL_TIME_RATE_HZ`."""
        self.scene.step(self._targets_rad, self._closure)
        self._n_steps += 1
        self._n_lifted_steps = self._n_lifted_steps + 1 if self.success else 0
        self._was_lifted = self._was_lifted or self._n_lifted_steps > 0

    def _state(self) -> NDArray[np.float32]:
        """(18,) in the order of `STATE_KEYS`."""
        scene = self.scene
        return _float32(
            np.concatenate([scene.joint_positions_rad, scene.joint_velocities_rad_s, [scene.gripper_closure], scene.tcp_position_m])
        )

    def _block(self) -> NDArray[np.float32]:
        """(3,) position of the cube in metres."""
        return _float32(self.scene.block_position_m)


_robots: weakref.WeakSet[FrankaSimRobot] = weakref.WeakSet()


def find_robot(robot_id: str | None) -> FrankaSimRobot:
    """Return the simulated robot of this process.

    Args:
        robot_id: its `--robot.id`; None accepts any, and prefers one that is connected.

    Raises:
        LookupError: there is none, or several match.
    """
    found = [robot for robot in _robots if robot_id is None or robot.id == robot_id]
    found = [robot for robot in found if robot.is_connected] or found
    if len(found) == 1:
        return found[0]
    wanted = "no simulated robot" if robot_id is None else f"no simulated robot with the id {robot_id!r}"
    if not found:
        ids = sorted(str(robot.id) for robot in _robots)
        raise LookupError(f"there is {wanted} in this process (ids here: {ids}); use it together with --robot.type=franka_sim")
    raise LookupError(f"{len(found)} simulated robots match; give them different --robot.id and name one with --teleop.robot_id")


class _EpisodeAnnouncements(logging.Handler):
    """Listens to LeRobot's announcements, as a person beside a real robot does, and has the scene prepared for each episode."""

    def __init__(self, robot: FrankaSimRobot) -> None:
        super().__init__(level=logging.INFO)
        self._robot = weakref.ref(robot)

    def emit(self, record: logging.LogRecord) -> None:
        robot = self._robot()
        if robot is not None and isinstance(record.msg, str) and record.msg.startswith(EPISODE_ANNOUNCEMENT):
            robot.reset_before_next_use()


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)
