"""An environment of LeRobot's kind that counts its steps, with every way to end."""

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.configs import PolicyFeature
from lerobot.envs.configs import EnvConfig


class CounterGym(gym.Env):
    """Counts its steps and adds up its actions in one buffer that it gives out again and again, as some environments do."""

    def __init__(self, succeed_at: int, terminate_at: int, truncate_at: int, reports_success: bool) -> None:
        self.action_space = gym.spaces.Box(-1.0, 0.5, (2,), np.float32)
        image = gym.spaces.Box(0, 255, (6, 5, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({"agent_pos": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32), "pixels": image})
        self.succeed_at, self.terminate_at, self.truncate_at = succeed_at, terminate_at, truncate_at
        self.reports_success = reports_success
        self.state = np.zeros(2, np.float32)

    def observe(self) -> dict[str, np.ndarray]:
        pixels = np.arange(90, dtype=np.uint8).reshape(6, 5, 3) + np.uint8(100 + self.state[0])
        return {"agent_pos": self.state, "pixels": pixels}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.state[:] = 0, float(seed or 0)
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.state += 1, action[0]
        n = int(self.state[0])
        success = self.succeed_at <= n
        info = {"is_success": success} if self.reports_success else {}
        return self.observe(), 2.0 if success else -0.25, n >= self.terminate_at, n >= self.truncate_at, info


gym.register(id="serl_test/Counter-v0", entry_point=CounterGym)


@EnvConfig.register_subclass("serl_test_counter")
@dataclass
class CounterEnv(EnvConfig):
    """``--env.type=serl_test_counter``."""

    task: str | None = "count to three"
    succeed_at: int = 99
    terminate_at: int = 99
    truncate_at: int = 99
    reports_success: bool = True
    features: dict[str, PolicyFeature] = field(default_factory=dict)

    @property
    def gym_id(self) -> str:
        return "serl_test/Counter-v0"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        names = ("succeed_at", "terminate_at", "truncate_at", "reports_success")
        return {name: getattr(self, name) for name in names}
