"""What the tasks with state observations and a sparse reward have in common, as LeRobot environments."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

STATE, THINGS = "agent_pos", "environment_state"


def feature_sizes(action: int, state: int, things: int) -> dict[str, PolicyFeature]:
    """Sizes of the action, of the robot's own state, and of what describes the things around it."""
    return {
        ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(action,)),
        STATE: PolicyFeature(type=FeatureType.STATE, shape=(state,)),
        THINGS: PolicyFeature(type=FeatureType.ENV, shape=(things,)),
    }


@dataclass
class SparseStateConfig(EnvConfig):
    """Settings of an environment.

    Attributes:
        episode_length: steps after which an attempt has failed.
    """

    environment: ClassVar[str]

    episode_length: int = 100
    features_map: dict[str, str] = field(default_factory=lambda: {ACTION: ACTION, STATE: OBS_STATE, THINGS: OBS_ENV_STATE})

    @property
    def package_name(self) -> str:
        """Module that holds the environment class."""
        return type(self).__module__

    @property
    def gym_id(self) -> str:
        """Id to pass to `gymnasium.make`."""
        return self.environment

    @property
    @abstractmethod
    def gym_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment class."""


class SparseStateEnv(gym.Env):
    """Success ends the episode, and is the only reward; actions are executed within their bounds.

    Args:
        task: in words.
        action_space: its bounds are the robot's.
        state, things: ranges of the robot's own state and of what describes the things around it.
        episode_length: steps after which an attempt has failed.
        render_mode: as LeRobot passes it; nothing is drawn.
    """

    serl: ClassVar[dict[str, list[str]]] = {"positions": ["*"]}
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in gymnasium)

    def __init__(
        self, task: str, action_space: gym.spaces.Box, state: gym.spaces.Box, things: gym.spaces.Box, episode_length: int,
        render_mode: str | None,
    ) -> None:  # fmt: skip
        self.task = self.task_description = task
        self.action_space, self.observation_space = action_space, gym.spaces.Dict({STATE: state, THINGS: things})
        self.render_mode, self._max_episode_steps, self._n_steps = render_mode, episode_length, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._n_steps = 0
        self._begin()
        return self._observe(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        bounds = self.action_space
        assert isinstance(bounds, gym.spaces.Box)
        executed = np.clip(action, bounds.low, bounds.high).astype(np.float32)
        success = self._move(executed)
        self._n_steps += 1
        truncated = not success and self._n_steps >= self._max_episode_steps
        return self._observe(), float(success), success, truncated, {"is_success": success, "executed_action": executed}

    @abstractmethod
    def _begin(self) -> None:
        """Put the things at their places, by ``np_random``."""

    @abstractmethod
    def _move(self, action: np.ndarray) -> bool:
        """A control step; whether the task is solved."""

    @abstractmethod
    def _observe(self) -> dict[str, np.ndarray]: ...
