"""Push-T with state observations and a sparse reward, as a LeRobot environment, and demonstrations of a planner."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from .demonstrate import record_solved
from .pusht_planner import Planner, Table

GYM_ID = "lerobot_serl/PushtState-v0"
SIDE_PX = 512.0
gym.register(id=GYM_ID, entry_point=f"{__name__}:PushtState")


@EnvConfig.register_subclass("pusht_state")
@dataclass
class PushtStateEnv(EnvConfig):
    """Settings of :class:`PushtState`.

    Attributes:
        fps: control rate; gym-pusht's own.
        episode_length: steps after which an attempt has failed.
        start_distance_px, start_angle_rad: the T begins at most so far from its goal, in x, in y and in its angle.
    """

    task: str | None = "Push the T onto its outline"
    fps: int = 10
    episode_length: int = 200
    start_distance_px: float = 30.0
    start_angle_rad: float = 0.35
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(2,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(2,)),
            "environment_state": PolicyFeature(type=FeatureType.ENV, shape=(16,)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {ACTION: ACTION, "agent_pos": OBS_STATE, "environment_state": OBS_ENV_STATE}
    )

    @property
    def package_name(self) -> str:
        """Module that holds the environment class."""
        return __name__

    @property
    def gym_id(self) -> str:
        """Id to pass to `gymnasium.make`."""
        return GYM_ID

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment class."""
        return {
            "episode_length": self.episode_length,
            "start_distance_px": self.start_distance_px,
            "start_angle_rad": self.start_angle_rad,
        }


class PushtState(gym.Env):
    """gym-pusht's table: the action is the place in pixels to which the finger goes. Success (95 % of the outline covered) ends the episode.

    Observations: the finger, and the corners of the T, in pixels.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in gymnasium)

    def __init__(
        self, episode_length: int = 200, start_distance_px: float = 30.0, start_angle_rad: float = 0.35, render_mode: str | None = None
    ) -> None:
        self.table = Table()
        self.render_mode, self._episode_length, self._n_steps = render_mode, episode_length, 0
        self._reach = np.array([start_distance_px, start_distance_px, start_angle_rad])
        self.task = self.task_description = "Push the T onto its outline"
        self._max_episode_steps = episode_length
        self.action_space = gym.spaces.Box(0.0, SIDE_PX, (2,), np.float32)
        self.observation_space = gym.spaces.Dict({"agent_pos": _pixels(2), "environment_state": _pixels(16)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._n_steps = 0
        self.table.place(self.np_random.uniform(-self._reach, self._reach), self.np_random)
        return self._observe(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        executed = np.clip(action, 0.0, SIDE_PX).astype(np.float32)
        self.table.move(executed)
        self._n_steps += 1
        success = self.table.solved
        truncated = not success and self._n_steps >= self._episode_length
        return self._observe(), float(success), success, truncated, {"is_success": success, "executed_action": executed}

    def _observe(self) -> dict[str, Any]:
        return {"agent_pos": self.table.finger.astype(np.float32), "environment_state": self.table.corners.flatten().astype(np.float32)}


def record_expert(config: PushtStateEnv, repo_id: str, root: Path, demonstrations: int, seed: int) -> None:
    """Episodes that the planner solves, as a LeRobotDataset."""
    env = PushtState(**config.gym_kwargs)
    names = {
        OBS_STATE: ["finger.x", "finger.y"],
        OBS_ENV_STATE: [f"corner_{corner}.{axis}" for corner in range(8) for axis in "xy"],
        ACTION: ["finger.x", "finger.y"],
    }
    record_solved(env, config, lambda attempt: Planner(env.table, attempt).act, names, repo_id, root, demonstrations, seed)


def _pixels(size: int) -> gym.spaces.Box:
    # The T may be pushed a little over the edge.
    return gym.spaces.Box(-SIDE_PX, 2 * SIDE_PX, (size,), np.float32)
