"""Configuration of the scripted expert as a LeRobot teleoperator: `--teleop.type=franka_sim_expert`.

Importing this module registers the type; it is cheap to import.
"""

import math
from dataclasses import dataclass

from lerobot.teleoperators import TeleoperatorConfig

from ..setting_error import checks_settings


@TeleoperatorConfig.register_subclass("franka_sim_expert")
@dataclass(kw_only=True)
class FrankaSimExpertConfig(TeleoperatorConfig):
    """The scripted expert at the simulated robot or environment of the same process.

    The `takeover` settings make it a person who watches a policy: `get_teleop_events` reports an intervention when an attempt takes too
    long. As a plain teleoperator it ignores them.

    Attributes:
        robot_id: `--robot.id` of that robot; None if there is only one.
        noise_std: standard deviation of Gaussian noise on the tool's displacement, as a fraction of the largest displacement per step.
        seed: seed of that noise, and of the choice of the attempts that are helped.
        takeover_share: share of the attempts that are helped, 0 to 1; 0 = none.
        takeover_after_s: help when the cube has not been lifted by this simulated time of the attempt.
        takeover_beside_m: of these attempts, help in those alone where the hand comes down at least this far beside the cube; 0 = in all.
        takeover_for_s: let go after this many simulated seconds even if the cube has not been lifted; 0 = only then.

    Raises:
        SettingError: a number is out of range or not finite.
    """

    robot_id: str | None = None
    noise_std: float = 0.0
    seed: int = 0
    takeover_share: float = 0.0
    takeover_after_s: float = 3.0
    takeover_beside_m: float = 0.0
    takeover_for_s: float = 0.0

    @checks_settings
    def __post_init__(self) -> None:
        for name, example in (("noise_std", 0.3), ("takeover_after_s", 3.0), ("takeover_beside_m", 0.025), ("takeover_for_s", 0.0)):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"teleop.{name} is {value}, expected a finite number of at least 0, for example {example}")
        if not 0 <= self.takeover_share <= 1:
            raise ValueError(f"teleop.takeover_share is {self.takeover_share}, expected a share from 0 to 1, for example 0.5")
        if self.seed < 0:
            raise ValueError(f"teleop.seed is {self.seed}, expected at least 0")
