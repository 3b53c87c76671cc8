"""Configuration of two simulated Pandas as one LeRobot robot: `--robot.type=bi_franka_sim`.

Importing this module registers the type; it is cheap to import.
"""

from dataclasses import dataclass, fields

from lerobot.robots import RobotConfig

from .config_franka_sim_robot import FrankaSimRobotConfig

SIDES = ("left", "right")
# The right cube's places come from seeds this much higher, so that the two cubes do not lie alike.
RIGHT_SEED_OFFSET = 1_000_000


@RobotConfig.register_subclass("bi_franka_sim")
@dataclass(kw_only=True)
class BiFrankaSimRobotConfig(FrankaSimRobotConfig):
    """Two arms, each with a cube of its own; every setting of `FrankaSimRobotConfig` holds for both.

    Attributes:
        reset_after_success_s: begin anew when both cubes have been lifted for this many simulated seconds; 0 = never.
    """

    def arm_config(self, side: str) -> FrankaSimRobotConfig:
        """Return the configuration of the arm `side`, "left" or "right"; its id is that of the robot with the side added."""
        settings = {field.name: getattr(self, field.name) for field in fields(FrankaSimRobotConfig)}
        settings["id"] = f"{self.id or 'bi_franka_sim'}_{side}"
        settings["reset_after_success_s"] = 0.0  # decided for both arms together
        settings["seed"] += RIGHT_SEED_OFFSET if side == "right" else 0
        return FrankaSimRobotConfig(**settings)
