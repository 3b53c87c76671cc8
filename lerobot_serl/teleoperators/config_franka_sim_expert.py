"""Configuration of the scripted expert as a LeRobot teleoperator: `--teleop.type=franka_sim_expert`.

Importing this module registers the type; it is cheap to import.
"""

import math
from dataclasses import dataclass

from lerobot.teleoperators import TeleoperatorConfig


@TeleoperatorConfig.register_subclass("franka_sim_expert")
@dataclass(kw_only=True)
class FrankaSimExpertConfig(TeleoperatorConfig):
    """The scripted expert at the simulated robot of the same process.

    Attributes:
        robot_id: `--robot.id` of that robot; None if there is only one.
        noise_std: standard deviation of Gaussian noise on the tool's displacement, as a fraction of the largest displacement per step.
        seed: seed of that noise.

    Raises:
        ValueError: noise_std is negative or not finite, or seed is negative.
    """

    robot_id: str | None = None
    noise_std: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"teleop.noise_std is {self.noise_std}, expected a finite number of at least 0, for example 0.3")
        if self.seed < 0:
            raise ValueError(f"teleop.seed is {self.seed}, expected at least 0")
