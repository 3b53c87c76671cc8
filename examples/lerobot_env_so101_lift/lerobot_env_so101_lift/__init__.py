"""An environment that is not ours, as LeRobot wants it: the SO-101 of the package `lerobot-env-so101` lifts a cube. And an expert for it.

docs/environments.md goes from here to a better policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from lerobot_env_so101 import SO101PickPlaceGymEnv
from lerobot_env_so101.policy import DEFAULT_ACTION_SCALE, OBS_FIELD_NAMES
from lerobot_env_so101.scripted import PickPlaceController

# Where the cube begins, x and y, and how far it has to rise.
START_LOW_M, START_HIGH_M, LIFT_M = (0.19, -0.03), (0.25, 0.03), 0.03
STATE, THINGS = "agent_pos", "environment_state"
gym.register(id="lerobot_env_so101_lift/Lift-v0", entry_point="lerobot_env_so101_lift:So101Lift")


class So101Lift(SO101PickPlaceGymEnv):
    """The action is how far the fingertips go, in units of 25 mm, and how far they open, 0 to 1. Success: the cube has risen."""

    task_description = "Lift the cube."

    def reset(self, seed: int | None = None, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed, **kwargs)
        self.data.joint("block").qpos[:2] = self.np_random.uniform(START_LOW_M, START_HIGH_M)
        mujoco.mj_forward(self.model, self.data)
        return self._compute_observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, *_ = super().step(action)
        lifted = bool(observation[THINGS][2] - self._z_init > LIFT_M)
        return observation, float(lifted), lifted, False, {"is_success": lifted}


@EnvConfig.register_subclass("so101_lift")
@dataclass
class So101LiftEnv(EnvConfig):
    """`--env.type=so101_lift`.

    Attributes:
        fps: control rate; that of the package.
        episode_length: steps after which an attempt has failed.
        features, features_map: sizes of the observations and of the action, and LeRobot's names for them.
    """

    task: str | None = "Lift-v0"
    fps: int = 10
    episode_length: int = 100
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(4,)),
            STATE: PolicyFeature(type=FeatureType.STATE, shape=(14,)),
            THINGS: PolicyFeature(type=FeatureType.ENV, shape=(6,)),
        }
    )
    features_map: dict[str, str] = field(default_factory=lambda: {ACTION: ACTION, STATE: OBS_STATE, THINGS: OBS_ENV_STATE})

    @property
    def feature_names(self) -> dict[str, list[str]]:
        """Names of the entries of each vector, for the demonstrations."""
        goal = ["goal_x", "goal_y", "goal_z"]
        return {OBS_STATE: [*OBS_FIELD_NAMES[:14]], OBS_ENV_STATE: [*OBS_FIELD_NAMES[14:], *goal], ACTION: ["dx", "dy", "dz", "grasp"]}

    @property
    def package_name(self) -> str:
        """With `task` it makes the id of the environment."""
        return "lerobot_env_so101_lift"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Of the environment's class."""
        return {"max_episode_steps": self.episode_length, "action_scale": DEFAULT_ACTION_SCALE}


def expert(env: So101Lift) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """For `lerobot-serl-record --expert=lerobot_env_so101_lift:expert`: called at the beginning of each attempt, it returns observation -> action."""
    controller = PickPlaceController(DEFAULT_ACTION_SCALE)

    def act(observation: Mapping[str, np.ndarray]) -> np.ndarray:
        cube, goal = np.split(observation[THINGS], 2)
        return controller.act(env.ik_point_pos, cube, goal)

    return act
