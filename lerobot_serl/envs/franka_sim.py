"""Gymnasium environment: a simulated Panda picks up a cube.

Made by `gymnasium.make("lerobot_serl/FrankaSim-pick_cube-v0")` once this module or its configuration is imported, or
by any LeRobot command with `--env.type=franka_sim`. OpenGL is touched only by image observations and by `render()`.
"""

import logging
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lerobot_serl.envs.config_franka_sim import (
    ACTION_NAMES,
    ENVIRONMENT_STATE_NAMES,
    STATE_NAMES,
    TASK_DESCRIPTIONS,
    FrankaSimEnv,
)
from lerobot_serl.envs.pick_cube import AtOneCube, PickCube
from lerobot_serl.envs.schematic import draw
from lerobot_serl.envs.simulated_arm import simulated_arms

Observation = dict[str, Any]


class FrankaSimGym(AtOneCube, gym.Env):
    """One arm, one cube, reward 1 when the cube has been lifted.

    Observations (float32 unless noted):
        agent_pos: (18,) joint positions (rad), joint velocities (rad/s), gripper (0 open, 1 closed), tool xyz (m).
        environment_state: (3,) cube xyz (m), in state mode only.
        pixels: {"front", "wrist"} or fewer, each (height, width, 3) uint8, in pixel mode only.

    Actions (float32), clipped to the action space:
        "ee_delta": (4,) tool displacement xyz, where 1 is 0.25 m/s for one period (25 mm at 10 Hz), and the
            gripper, 0 open to 1 closed.
        "joint": (8,) absolute joint positions (rad), approached at `JOINT_SPEED_RAD_S` at most, and the gripper.

    `info["executed_action"]` is the action after clipping and rate limiting; `info["is_success"]` is True once the
    cube is lifted. Success terminates the episode, failure never does, and `episode_length` steps truncate it.

    Args:
        task, fps, episode_length, obs_type, control_mode, cameras, observation_height, observation_width,
        visualization_height, visualization_width, render_mode: see `FrankaSimEnv`, which validates them.
    """

    config: FrankaSimEnv
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in gymnasium)

    def __init__(self, render_mode: str | None = "rgb_array", **settings: Any) -> None:
        self.config = FrankaSimEnv(render_mode=render_mode or "rgb_array", **settings)
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": self.config.fps}
        self.task = str(self.config.task)
        self._draws_schematic = False
        self.task_description = TASK_DESCRIPTIONS[self.task]
        self._max_episode_steps = self.config.episode_length
        self._cube = PickCube(self.config.control_mode, self.config.fps)
        self._is_open = True
        self.action_space = gym.spaces.Box(self._cube.action_low, self._cube.action_high, dtype=np.float32)
        self.observation_space = self._build_observation_space()
        simulated_arms.add(self)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Of an action's entries: they say how the arm is kept still."""
        return tuple(ACTION_NAMES[self.config.control_mode])

    def _build_observation_space(self) -> gym.spaces.Dict:
        spaces: dict[str, gym.Space] = {"agent_pos": _unbounded(len(STATE_NAMES))}
        if self.config.obs_type == "state":
            spaces["environment_state"] = _unbounded(len(ENVIRONMENT_STATE_NAMES))
        else:
            shape = (self.config.observation_height, self.config.observation_width, 3)
            spaces["pixels"] = gym.spaces.Dict({camera: gym.spaces.Box(0, 255, shape, np.uint8) for camera in self.config.cameras})
        return gym.spaces.Dict(spaces)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode with the cube at a random place; the same seed gives the same place."""
        super().reset(seed=seed)
        self._cube.begin(self.np_random)
        return self._observe(), {"is_success": False}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply one action for one control period.

        Raises:
            ValueError: the action has the wrong shape or an entry that is not finite.
        """
        names, values = ACTION_NAMES[self.config.control_mode], np.asarray(action, dtype=np.float32)
        if values.shape != (len(names),):
            raise ValueError(f"action has shape {values.shape}, expected ({len(names)},) = {names}")
        executed = self._cube.executable(values, names)
        self._cube.aim(executed)
        self._cube.step()
        is_success = self.success
        truncated = not is_success and self._cube.n_steps >= self._max_episode_steps
        info = {"is_success": is_success, "executed_action": executed}
        return self._observe(), float(is_success), is_success, truncated, info

    def _observe(self) -> Observation:
        if self.config.obs_type == "state":
            return self.privileged_observation()
        height_px, width_px = self.config.observation_height, self.config.observation_width
        pixels = {camera: self.scene.render(camera, height_px, width_px) for camera in self.config.cameras}
        return {"agent_pos": self._cube.arm_state(), "pixels": pixels}

    def privileged_observation(self) -> Observation:
        """Return the state-mode observation whatever the observation type: for experts and for inspection."""
        return self._cube.privileged_observation()

    def render(self) -> NDArray[np.uint8] | None:
        """Return the front view as (visualization_height, visualization_width, 3) uint8, or None without render mode.

        State mode needs no OpenGL: where there is none, a schematic drawing is returned, and a warning says so once.
        """
        if self.render_mode is None:
            return None
        size = self.config.visualization_height, self.config.visualization_width
        if not self._draws_schematic:
            try:
                return self.scene.render("front", *size)
            except RuntimeError as error:
                if self.config.obs_type == "pixels":
                    raise
                logging.warning(f"Pictures are schematic: {error}")
                self._draws_schematic = True
        return draw(self.scene.block_position_m, self.scene.tcp_position_m, self.scene.gripper_closure, *size)

    def close(self) -> None:
        """Free the OpenGL contexts; calling it again does nothing."""
        self._is_open = False
        self.scene.close()

    # What follows makes it a `SimulatedArm`, at which a scripted person can work.

    @property
    def id(self) -> None:
        """Environments have no name."""
        return None

    @property
    def is_connected(self) -> bool:
        """Whether it has not been closed."""
        return self._is_open

    @property
    def action_keys(self) -> tuple[str, ...]:
        """Names of an action's entries, in order, as the robot `franka_sim` calls them."""
        return tuple(f"{name.removesuffix('.pos')}.pos" for name in ACTION_NAMES[self.config.control_mode])

    def _present_cube(self) -> PickCube:
        return self._cube

    def executable_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Return what `step` would carry out now.

        Args:
            action: one number for each of `action_keys`.

        Raises:
            ValueError: an entry is not finite.
        """
        keys = self.action_keys
        executed = self._cube.executable(np.array([float(action[key]) for key in keys], dtype=np.float32), keys)
        return dict(zip(keys, executed.tolist(), strict=True))


def _unbounded(size: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
