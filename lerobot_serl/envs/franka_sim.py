"""Gymnasium environment: a simulated Panda picks up a cube.

Made by `gymnasium.make("lerobot_serl/FrankaSim-pick_cube-v0")` once this module or its configuration is imported, or
by any LeRobot command with `--env.type=franka_sim`. OpenGL is touched only by image observations and by `render()`.
"""

import logging
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lerobot_serl.envs.config_franka_sim import (
    ACTION_NAMES,
    CAMERAS,
    ENVIRONMENT_STATE_NAMES,
    STATE_NAMES,
    TASK_DESCRIPTIONS,
    FrankaSimEnv,
)
from lerobot_serl.envs.panda_scene import N_JOINTS, PandaScene
from lerobot_serl.envs.schematic import draw

EE_SPEED_M_S = 0.25
JOINT_SPEED_RAD_S = 2.0
BLOCK_LOW_XY_M = (0.3, -0.15)
BLOCK_HIGH_XY_M = (0.5, 0.15)
LIFT_HEIGHT_M = 0.1
HELD_DISTANCE_M = 0.05

Observation = dict[str, Any]


class FrankaSimGym(gym.Env):
    """One arm, one cube, reward 1 when the cube has been lifted.

    Observations (float32 unless noted):
        agent_pos: (18,) joint positions (rad), joint velocities (rad/s), gripper (0 open, 1 closed), tool xyz (m).
        environment_state: (3,) cube xyz (m), in state mode only.
        pixels: {"front", "wrist"}, each (height, width, 3) uint8, in pixel mode only.

    Actions (float32), clipped to the action space:
        "ee_delta": (4,) tool displacement xyz, where 1 is `EE_SPEED_M_S / fps` metres (25 mm at 10 Hz), and the
            gripper, 0 open to 1 closed.
        "joint": (8,) absolute joint positions (rad), approached at `JOINT_SPEED_RAD_S` at most, and the gripper.

    `info["executed_action"]` is the action after clipping and rate limiting; `info["is_success"]` is True once the
    cube is lifted. Success terminates the episode, failure never does, and `episode_length` steps truncate it.

    Args:
        task, fps, episode_length, obs_type, control_mode, observation_height, observation_width,
        visualization_height, visualization_width, render_mode: see `FrankaSimEnv`, which validates them.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in gymnasium)

    def __init__(self, render_mode: str | None = "rgb_array", **settings: Any) -> None:
        self.config = FrankaSimEnv(render_mode=render_mode or "rgb_array", **settings)
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": self.config.fps}
        self.task = str(self.config.task)
        self._draws_schematic = False
        self.task_description = TASK_DESCRIPTIONS[self.task]
        self._max_episode_steps = self.config.episode_length
        self._scene = PandaScene(control_period_s=1 / self.config.fps)
        self._ee_step_m = EE_SPEED_M_S / self.config.fps
        self._joint_step_rad = JOINT_SPEED_RAD_S / self.config.fps
        self._action_box = self._build_action_space()
        self.action_space = self._action_box
        self.observation_space = self._build_observation_space()
        self._n_steps = 0
        self._block_start_z_m = 0.0

    def _build_action_space(self) -> gym.spaces.Box:
        scene = self._scene
        low, high = -np.ones(3), np.ones(3)
        if self.config.control_mode == "joint":
            low, high = scene.joint_low_rad, scene.joint_high_rad
        return gym.spaces.Box(_float32(*low, 0.0), _float32(*high, 1.0), dtype=np.float32)

    def _build_observation_space(self) -> gym.spaces.Dict:
        spaces: dict[str, gym.Space] = {"agent_pos": _unbounded(len(STATE_NAMES))}
        if self.config.obs_type == "state":
            spaces["environment_state"] = _unbounded(len(ENVIRONMENT_STATE_NAMES))
        else:
            shape = (self.config.observation_height, self.config.observation_width, 3)
            spaces["pixels"] = gym.spaces.Dict({camera: gym.spaces.Box(0, 255, shape, np.uint8) for camera in CAMERAS})
        return gym.spaces.Dict(spaces)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode with the cube at a random place; the same seed gives the same place."""
        super().reset(seed=seed)
        self._scene.reset(block_xy_m=self.np_random.uniform(BLOCK_LOW_XY_M, BLOCK_HIGH_XY_M))
        self._n_steps = 0
        self._block_start_z_m = float(self._scene.block_position_m[2])
        return self._observe(), {"is_success": False}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply one action for one control period.

        Raises:
            ValueError: the action has the wrong shape or an entry that is not finite.
        """
        executed = self._executable(np.asarray(action, dtype=np.float32))
        if self.config.control_mode == "ee_delta":
            targets_rad = self._scene.joint_targets_for_delta(executed[:3].astype(np.float64) * self._ee_step_m)
        else:
            targets_rad = executed[:N_JOINTS].astype(np.float64)
        self._scene.step(targets_rad, gripper_closure=float(executed[-1]))
        self._n_steps += 1
        is_success = self._is_lifted()
        truncated = not is_success and self._n_steps >= self._max_episode_steps
        info = {"is_success": is_success, "executed_action": executed}
        return self._observe(), float(is_success), is_success, truncated, info

    def _executable(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the action that the arm will follow: checked, clipped to the space and, for joints, rate-limited."""
        names = ACTION_NAMES[self.config.control_mode]
        if action.shape != (len(names),):
            raise ValueError(f"action has shape {action.shape}, expected ({len(names)},) = {names}")
        for name, value in zip(names, action, strict=True):
            if not np.isfinite(value):
                raise ValueError(f"action entry {name!r} is {value}, expected a finite number; check the policy")
        executed = np.clip(action, self._action_box.low, self._action_box.high)
        if self.config.control_mode == "joint":
            measured = self._scene.joint_positions_rad
            low, high = measured - self._joint_step_rad, measured + self._joint_step_rad
            executed[:N_JOINTS] = np.clip(executed[:N_JOINTS], low, high)
        return executed

    def _is_lifted(self) -> bool:
        block_m = self._scene.block_position_m
        lifted = block_m[2] - self._block_start_z_m >= LIFT_HEIGHT_M
        held = np.linalg.norm(block_m - self._scene.tcp_position_m) < HELD_DISTANCE_M
        return bool(lifted and held)

    def _observe(self) -> Observation:
        if self.config.obs_type == "state":
            return self.privileged_observation()
        height_px, width_px = self.config.observation_height, self.config.observation_width
        pixels = {camera: self._scene.render(camera, height_px, width_px) for camera in CAMERAS}
        return {"agent_pos": self._agent_pos(), "pixels": pixels}

    def _agent_pos(self) -> NDArray[np.float32]:
        scene = self._scene
        return np.concatenate(
            [scene.joint_positions_rad, scene.joint_velocities_rad_s, [scene.gripper_closure], scene.tcp_position_m]
        ).astype(np.float32)

    def privileged_observation(self) -> Observation:
        """Return the state-mode observation whatever the observation type: for experts and for inspection."""
        return {
            "agent_pos": self._agent_pos(),
            "environment_state": self._scene.block_position_m.astype(np.float32),
        }

    def render(self) -> NDArray[np.uint8] | None:
        """Return the front view as (visualization_height, visualization_width, 3) uint8, or None without render mode.

        State mode needs no OpenGL: where there is none, a schematic drawing is returned, and a warning says so once.
        """
        if self.render_mode is None:
            return None
        size = self.config.visualization_height, self.config.visualization_width
        if not self._draws_schematic:
            try:
                return self._scene.render("front", *size)
            except RuntimeError as error:
                if self.config.obs_type == "pixels":
                    raise
                logging.warning(f"Pictures are schematic: {error}")
                self._draws_schematic = True
        return draw(self._scene.block_position_m, self._scene.tcp_position_m, self._scene.gripper_closure, *size)

    def close(self) -> None:
        """Free the OpenGL contexts; calling it again does nothing."""
        self._scene.close()


def _unbounded(size: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def _float32(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)
