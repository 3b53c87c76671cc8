"""Configuration of two scripted experts as one teleoperator: `--teleop.type=bi_franka_sim_expert`.

Importing this module registers the type; it is cheap to import.
"""

from dataclasses import dataclass, fields

from lerobot.teleoperators import TeleoperatorConfig

from .config_franka_sim_expert import FrankaSimExpertConfig


@TeleoperatorConfig.register_subclass("bi_franka_sim_expert")
@dataclass(kw_only=True)
class BiFrankaSimExpertConfig(FrankaSimExpertConfig):
    """One scripted expert at each arm of the robot `bi_franka_sim` of the same process; every setting holds for both.

    A takeover ends when both cubes have been lifted.

    Attributes:
        robot_id: `--robot.id` of that robot; None if there is only one.
    """

    def arm_config(self, side: str, arm_id: str | None) -> FrankaSimExpertConfig:
        """Return the configuration of the expert at the arm `side`, "left" or "right".

        Args:
            side: the noise of the two sides differs.
            arm_id: `id` of the arm.
        """
        settings = {field.name: getattr(self, field.name) for field in fields(FrankaSimExpertConfig)}
        settings["id"] = f"{self.id or 'bi_franka_sim_expert'}_{side}"
        settings["robot_id"] = arm_id
        settings["seed"] = 2 * self.seed + (side == "right")
        settings["takeover_share"] = 0.0  # decided for both arms together
        return FrankaSimExpertConfig(**settings)
