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
from lerobot.utils import DeviceNotConnectedError, check_if_not_connected
from numpy.typing import NDArray

from ..envs.pick_cube import AtOneCube, PickCube
from ..envs.simulated_arm import simulated_arms
from .config_franka_sim_robot import BLOCK_KEYS, STATE_KEYS, FrankaSimRobotConfig
from .gamepad_action import AXES, GRIPPER, RobotKeys, in_robot_keys
from .uncalibrated import Uncalibrated

# LeRobot's log_say logs this at the beginning of each episode (0.6.x: lerobot-record, episodic lerobot-rollout).
EPISODE_ANNOUNCEMENT = "Recording episode"
GAMEPAD_KEYS = RobotKeys(("delta_x.pos", "delta_y.pos", "delta_z.pos"), "gripper.pos", closed=1.0, opened=0.0)
REAL_TIME_RATE_HZ = 50
MAX_CATCH_UP_S = 1.0

logger = logging.getLogger(__name__)


class FrankaSimRobot(AtOneCube, Uncalibrated, Robot):
    """One arm, one cube. Observations and actions are dictionaries of Python floats; images are uint8 arrays.

    Observations: `joint_1.pos` to `joint_7.pos` (rad), `joint_1.vel` to `joint_7.vel` (rad/s), `gripper.pos` (0 open, 1 closed),
    `tcp_x.pos`, `tcp_y.pos`, `tcp_z.pos` (m), on request `block_x.pos`, `block_y.pos`, `block_z.pos` (m) and the images.

    Actions: `joint_1.pos` to `joint_7.pos` (rad), or `delta_x.pos`, `delta_y.pos`, `delta_z.pos` (-1..1); and `gripper.pos`.

    Attributes:
        n_attempts: attempts that have ended since `connect`.
        n_lifted: those of them in which the cube was lifted.
    """

    config_class = FrankaSimRobotConfig
    config: FrankaSimRobotConfig
    name = "franka_sim"

    def __init__(self, config: FrankaSimRobotConfig) -> None:
        super().__init__(config)
        self.config = config
        self.cameras = config.camera_shapes
        self.n_attempts = 0
        self.n_lifted = 0
        self._connected_cube: PickCube | None = None
        self._announcements: _EpisodeAnnouncements | None = None
        self._is_reset_due = self._was_lifted = False
        self._n_lifted_steps = 0
        self._rate_hz = config.fps if config.lockstep else REAL_TIME_RATE_HZ
        self._clock = time.perf_counter
        simulated_arms.add(self)

    @property
    def observation_features(self) -> dict[str, type | tuple[int, int, int]]:
        return {**dict.fromkeys(self.config.observation_keys, float), **self.config.camera_shapes}

    @property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys(self.config.action_keys, float)

    @property
    def is_connected(self) -> bool:
        return self._connected_cube is not None

    def connect(self, calibrate: bool = True) -> None:
        """Start the simulation, with the arm at home and the cube placed; does nothing if it has been started.

        Raises:
            ModuleNotFoundError: the scene's files are not installed.
        """
        if self.is_connected:
            return
        self._connected_cube = PickCube(self.config.control_mode, self.config.fps, self._rate_hz)
        self.n_attempts = self.n_lifted = 0
        self._begin_attempt()
        if self.config.reset_with_episodes:
            self._announcements = _EpisodeAnnouncements(self)
            logging.getLogger().addHandler(self._announcements)

    def disconnect(self) -> None:
        """End the simulation; does nothing if it has not been started."""
        if self._announcements is not None:
            logging.getLogger().removeHandler(self._announcements)
            self._announcements = None
        if self._connected_cube is not None:
            self._count_attempt()
            self._connected_cube.scene.close()
            self._connected_cube = None

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
        observation = self._cube.privileged_observation()
        values = dict(zip(STATE_KEYS, observation["agent_pos"].tolist(), strict=True))
        if self.config.expose_block:
            values |= dict(zip(BLOCK_KEYS, observation["environment_state"].tolist(), strict=True))
        height_px, width_px = self.config.image_height_px, self.config.image_width_px
        return {**values, **{camera: self.scene.render(camera, height_px, width_px) for camera in self.cameras}}

    @check_if_not_connected
    def privileged_observation(self) -> dict[str, NDArray[np.float32]]:
        """Return "agent_pos" (18,) and "environment_state" (3,) as the environment does, whatever is exposed: for experts."""
        self._bring_up_to_date()
        return self._cube.privileged_observation()

    @check_if_not_connected
    def send_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Move, in lockstep for `1 / fps` seconds, and return the action that is really carried out.

        Args:
            action: one number for each of `action_features`; other keys are ignored. With control_mode=ee_delta also an action of
                LeRobot's `gamepad` or `keyboard_ee` (`gamepad_action`).

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            ValueError: an entry is missing or not finite.
            RuntimeError: the physics diverged; call `reset`.
        """
        executed = self.executable_action(action)
        self._cube.aim(np.array(list(executed.values()), dtype=np.float32))
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
        keys, action = self.config.action_keys, self.translate_action(action)
        missing = [key for key in keys if key not in action]
        if missing:
            raise ValueError(f"the action lacks {missing}; robot.control_mode={self.config.control_mode} needs {keys}")
        executed = self._cube.executable(np.array([float(action[key]) for key in keys], dtype=np.float32), keys)
        return dict(zip(keys, executed.tolist(), strict=True))

    @property
    def action_aliases(self) -> tuple[tuple[str, ...], ...]:
        """Keys of other devices' actions that `send_action` takes too."""
        return (AXES, (*AXES, GRIPPER)) if self.config.control_mode == "ee_delta" else ()

    def translate_action(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an action in this robot's own keys, whichever of its devices it came from."""
        return in_robot_keys(action, GAMEPAD_KEYS, self._cube.gripper_target) if self.config.control_mode == "ee_delta" else action

    @property
    def action_keys(self) -> tuple[str, ...]:
        """Names of an action's entries, in order."""
        return self.config.action_keys

    @property
    def lifted_for_s(self) -> float:
        """Simulated seconds for which the cube has been lifted and held."""
        return self._n_lifted_steps / self._rate_hz

    def _present_cube(self) -> PickCube:
        return self._cube

    @property
    def _cube(self) -> PickCube:
        if self._connected_cube is None:
            raise DeviceNotConnectedError("FrankaSimRobot is not connected. Run `.connect()` first.")
        return self._connected_cube

    def _begin_attempt(self, seed: int | None = None) -> None:
        self._cube.begin(np.random.default_rng(self.config.seed + self.n_attempts_begun if seed is None else seed))
        self._n_lifted_steps = 0
        self._was_lifted = self._is_reset_due = False
        self._simulated_until_s = self._clock()

    def _count_attempt(self) -> None:
        """Count and report the attempt that ends now, if anything has been simulated in it."""
        if self.attempt_time_s > 0:
            self.n_attempts += 1
            self.n_lifted += self._was_lifted
            result = "lifted" if self._was_lifted else "not lifted"
            logger.info("Attempt %d, %.1f s: %s; %d lifted so far", self.n_attempts, self.attempt_time_s, result, self.n_lifted)

    def _bring_up_to_date(self) -> None:
        """Begin anew if that is due, and follow the wall clock if that is wanted."""
        lifted_for_long = 0.0 < self.config.reset_after_success_s <= self.lifted_for_s
        lasted_long = 0.0 < self.config.reset_after_s <= self.attempt_time_s
        if self.attempt_time_s > 0 and (self._is_reset_due or lifted_for_long or lasted_long):
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
        self._cube.step()
        self._n_lifted_steps = self._n_lifted_steps + 1 if self.success else 0
        self._was_lifted = self._was_lifted or self._n_lifted_steps > 0


class _EpisodeAnnouncements(logging.Handler):
    """Listens to LeRobot's announcements, as a person beside a real robot does, and has the scene prepared for each episode."""

    def __init__(self, robot: FrankaSimRobot) -> None:
        super().__init__(level=logging.INFO)
        self._robot = weakref.ref(robot)

    def emit(self, record: logging.LogRecord) -> None:
        robot = self._robot()
        if robot is not None and isinstance(record.msg, str) and record.msg.startswith(EPISODE_ANNOUNCEMENT):
            robot.reset_before_next_use()
