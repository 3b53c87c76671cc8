"""Meta-World's tasks with state observations, as a LeRobot environment, and demonstrations of Meta-World's scripted experts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from lerobot.configs import PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from .demonstrate import record_solved
from .sparse_state import STATE, THINGS, SparseStateConfig, SparseStateEnv, feature_sizes

GYM_ID = "lerobot_serl/MetaworldState-v0"
# Of Meta-World's 39 numbers: hand and gripper; place of the object, goal. The rest is constant here, or the frame before.
HAND, OBJECT_AND_GOAL = slice(0, 4), np.r_[4:7, 36:39]
gym.register(id=GYM_ID, entry_point=f"{__name__}:MetaworldState")


@EnvConfig.register_subclass("metaworld_state")
@dataclass
class MetaworldStateEnv(SparseStateConfig):
    """Settings of :class:`MetaworldState`.

    Attributes:
        task: name in Meta-World, e.g. ``push-v3``.
        fps: control rate; Meta-World's own.
    """

    environment: ClassVar[str] = GYM_ID

    task: str | None = "push-v3"
    fps: int = 80
    episode_length: int = 120
    features: dict[str, PolicyFeature] = field(default_factory=lambda: feature_sizes(action=4, state=4, things=6))

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment class."""
        return {"task": self.task, "episode_length": self.episode_length}


class MetaworldState(SparseStateEnv):
    """One task; a seed gives object and goal their places."""

    serl: ClassVar[dict[str, list[str]]] = {"displacements": [*"012xyz"], "grippers": ["3", "gripper"]}  # by number or name

    def __init__(self, task: str = "push-v3", episode_length: int = 120, render_mode: str | None = None) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE  # takes seconds

        bounds = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        super().__init__(task, bounds, _unbounded(4), _unbounded(6), episode_length, render_mode)
        self._env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"](seed=0)
        self._env._freeze_rand_vec, self._env.seeded_rand_vec = False, True
        self.whole_observation = np.zeros(39)

    def close(self) -> None:
        self._env.close()

    def _begin(self) -> None:
        self._env.seed(int(self.np_random.integers(2**31)))
        self.whole_observation, _ = self._env.reset()

    def _move(self, action: np.ndarray) -> bool:
        self.whole_observation, _, _, _, info = self._env.step(action)
        return bool(info["success"])

    def _observe(self) -> dict[str, np.ndarray]:
        raw = self.whole_observation
        return {STATE: raw[HAND].astype(np.float32), THINGS: raw[OBJECT_AND_GOAL].astype(np.float32)}


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
