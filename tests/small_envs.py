"""Environments of other people, in a few lines: what they say of success, how they end, and what goes wrong with them."""

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

INPUTS = {
    "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
    "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 6, 5)),
}


class SmallGym(gym.Env):
    """An observation of four numbers and an image, as the robot of small_robots.py has them. The first number is the step.

    Args:
        says: entry of info that says success, with ``final_info.`` before it for one that stands there; empty: nothing does.
        pushed_off_at: terminates without success at this step, with a small reward, as dense rewards have it.
        fails_at: raises at this step; 0 in the reset.
    """

    def __init__(self, says: str, succeed_at: int, pushed_off_at: int, fails_at: int, truncate_at: int, gripper_up_to: float) -> None:
        self.action_space = gym.spaces.Box(np.full(4, -1, np.float32), np.array([1, 1, 1, gripper_up_to], np.float32))
        pixels = gym.spaces.Dict({"front": gym.spaces.Box(0, 255, (6, 5, 3), np.uint8)})
        self.observation_space = gym.spaces.Dict({"agent_pos": gym.spaces.Box(-np.inf, np.inf, (4,), np.float32), "pixels": pixels})
        self.says, self.succeed_at, self.pushed_off_at = says, succeed_at, pushed_off_at
        self.fails_at, self.truncate_at, self.steps = fails_at, truncate_at, 0

    def observe(self) -> dict[str, Any]:
        return {"agent_pos": np.array([self.steps, 0, 0, 0], np.float32), "pixels": {"front": np.zeros((6, 5, 3), np.uint8)}}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        self._fail()
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self._fail()
        success, pushed_off = self.steps >= self.succeed_at, self.steps >= self.pushed_off_at
        info: dict[str, Any] = {"episode_time": 0.1 * self.steps}
        if self.says:
            *inner, name = self.says.split(".")
            info |= {inner[0]: {name: np.bool_(success)}} if inner else {name: np.bool_(success)}
        return self.observe(), 0.1 + 0.9 * success, success or pushed_off, self.steps >= self.truncate_at, info

    def _fail(self) -> None:
        if self.steps == self.fails_at:
            raise KeyError("cube_joint")


gym.register(id="serl_test/Small-v0", entry_point=SmallGym)


@EnvConfig.register_subclass("serl_test_small")
@dataclass
class SmallEnv(EnvConfig):
    """``--env.type=serl_test_small``."""

    task: str | None = "Small-v0"
    says: str = "is_success"
    succeed_at: int = 99
    pushed_off_at: int = 99
    fails_at: int = -1
    truncate_at: int = 99
    gripper_up_to: float = 1.0
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    package_name = "serl_test"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("says", "succeed_at", "pushed_off_at", "fails_at", "truncate_at", "gripper_up_to")}


@EnvConfig.register_subclass("serl_test_suite")
@dataclass
class SuiteEnv(SmallEnv):
    """Several tasks, as Meta-World and LIBERO have them: ``task`` names them, with commas."""

    task: str | None = "push,reach"
    task_ids: list[int] | None = None

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        names = [name for number, name in enumerate(str(self.task).split(",")) if self.task_ids is None or number in self.task_ids]

        def make(name: str) -> gym.Env:
            env = SmallGym(**self.gym_kwargs)
            env.task = {"push": "push the cube", "reach": "reach the goal"}[name]
            return env

        return {"suite": {number: gym.vector.SyncVectorEnv([lambda name=name: make(name)]) for number, name in enumerate(names)}}
