"""Meta-World's tasks with state observations, as a LeRobot environment, and demonstrations of Meta-World's scripted experts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from .demonstrate import record_solved

GYM_ID = "lerobot_serl/MetaworldState-v0"
# Of Meta-World's 39 numbers: hand and gripper; place of the object, goal. The rest is constant here, or the frame before.
HAND, THINGS = slice(0, 4), np.r_[4:7, 36:39]
gym.register(id=GYM_ID, entry_point=f"{__name__}:MetaworldState")


@EnvConfig.register_subclass("metaworld_state")
@dataclass
class MetaworldStateEnv(EnvConfig):
    """Settings of :class:`MetaworldState`.

    Attributes:
        task: name in Meta-World, e.g. ``push-v3``.
        fps: control rate; Meta-World's own.
        episode_length: steps after which an attempt has failed.
    """

    task: str | None = "push-v3"
    fps: int = 80
    episode_length: int = 120
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(4,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(4,)),
            "environment_state": PolicyFeature(type=FeatureType.ENV, shape=(6,)),
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
        return {"task": self.task, "episode_length": self.episode_length}


class MetaworldState(gym.Env):
    """One task; a seed gives object and goal their places. Success ends the episode, and is the only reward."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012 (as in gymnasium)

    def __init__(self, task: str = "push-v3", episode_length: int = 120, render_mode: str | None = None) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE  # takes seconds

        self._env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"](seed=0)
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True
        self.render_mode, self._episode_length, self._n_steps = render_mode, episode_length, 0
        self.task, self.task_description = task, task
        self._max_episode_steps = episode_length
        self.action_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = gym.spaces.Dict({"agent_pos": _unbounded(4), "environment_state": _unbounded(6)})
        self.whole_observation = np.zeros(39)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._env.seed(int(self.np_random.integers(2**31)))
        self._n_steps = 0
        raw, _ = self._env.reset()
        return self._observe(raw), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        executed = np.clip(action, -1.0, 1.0).astype(np.float32)
        raw, _, _, _, info = self._env.step(executed)
        self._n_steps += 1
        success = bool(info["success"])
        truncated = not success and self._n_steps >= self._episode_length
        return self._observe(raw), float(success), success, truncated, {"is_success": success, "executed_action": executed}

    def close(self) -> None:
        self._env.close()

    def _observe(self, raw: np.ndarray) -> dict[str, Any]:
        self.whole_observation = raw
        return {"agent_pos": raw[HAND].astype(np.float32), "environment_state": raw[THINGS].astype(np.float32)}


def record_expert(config: MetaworldStateEnv, repo_id: str, root: Path, demonstrations: int, seed: int) -> None:
    """Episodes that Meta-World's scripted expert solves, as a LeRobotDataset."""
    from metaworld.policies import ENV_POLICY_MAP

    env, expert = MetaworldState(str(config.task), config.episode_length), ENV_POLICY_MAP[str(config.task)]()
    names = {
        OBS_STATE: ["x", "y", "z", "gripper"],
        OBS_ENV_STATE: ["object.x", "object.y", "object.z", "goal.x", "goal.y", "goal.z"],
        ACTION: ["x", "y", "z", "gripper"],
    }
    record_solved(env, config, lambda _: lambda: expert.get_action(env.whole_observation), names, repo_id, root, demonstrations, seed)


def _unbounded(size: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
