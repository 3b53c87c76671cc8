"""Push-T with state observations and a sparse reward, as a LeRobot environment, and demonstrations of a planner."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from lerobot.configs import PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from .demonstrate import record_solved
from .pusht_planner import Planner, Table
from .sparse_state import STATE, THINGS, SparseStateConfig, SparseStateEnv, feature_sizes

GYM_ID = "lerobot_serl/PushtState-v0"
SIDE_PX = 512.0
# Share of the outline that an attempt has to win at least: nearer starts are not used.
LEAST_MISSING = 0.1
# Starts to draw before giving up.
MOST_DRAWS = 1000
gym.register(id=GYM_ID, entry_point=f"{__name__}:PushtState")


@EnvConfig.register_subclass("pusht_state")
@dataclass
class PushtStateEnv(SparseStateConfig):
    """Settings of :class:`PushtState`.

    Attributes:
        task: in words.
        fps: control rate; gym-pusht's own.
        start_distance_px, start_angle_rad: the T begins at most so far from its goal, in x, in y and in its angle.
        coverage: share of the outline that has to be covered; gym-pusht asks for 0.95.
    """

    environment: ClassVar[str] = GYM_ID

    task: str | None = "Push the T onto its outline"
    fps: int = 10
    episode_length: int = 200
    start_distance_px: float = 30.0
    start_angle_rad: float = 0.35
    coverage: float = 0.95
    features: dict[str, PolicyFeature] = field(default_factory=lambda: feature_sizes(action=2, state=2, things=16))

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment class."""
        names = ("task", "episode_length", "start_distance_px", "start_angle_rad", "coverage")
        return {name: getattr(self, name) for name in names}


class PushtState(SparseStateEnv):
    """gym-pusht's table: the action is the place in pixels to which the finger goes. Success: enough of the outline is covered.

    Observations: the finger, and the corners of the T, in pixels.

    Raises:
        ValueError: at reset: the T cannot begin far enough from its goal.
    """

    def __init__(
        self, task: str = "", episode_length: int = 200, start_distance_px: float = 30.0, start_angle_rad: float = 0.35,
        coverage: float = 0.95, render_mode: str | None = None,
    ) -> None:  # fmt: skip
        bounds = gym.spaces.Box(0.0, SIDE_PX, (2,), np.float32)
        super().__init__(task, bounds, _pixels(2), _pixels(16), episode_length, render_mode)
        self.table = Table()
        self._reach, self._coverage = np.array([start_distance_px, start_distance_px, start_angle_rad]), coverage

    def _begin(self) -> None:
        for _ in range(MOST_DRAWS):
            self.table.place(self.np_random.uniform(-self._reach, self._reach), self.np_random)
            if self.table.coverage < self._coverage - LEAST_MISSING:
                return
        raise ValueError(
            f"No start within {self._reach[0]:g} px and {self._reach[2]:g} rad covers less than {self._coverage - LEAST_MISSING:.0%} of the outline. "
            "Raise start_distance_px, start_angle_rad or coverage."
        )

    def _move(self, action: np.ndarray) -> bool:
        self.table.move(action)
        return self.table.coverage > self._coverage

    def _observe(self) -> dict[str, np.ndarray]:
        return {STATE: self.table.finger.astype(np.float32), THINGS: self.table.corners.flatten().astype(np.float32)}


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
