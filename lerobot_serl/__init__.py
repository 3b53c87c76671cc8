"""SERL's SAC for LeRobot: fine-tune a pretrained ACT policy on the robot.

Importing the package registers its LeRobot types (policy ``serl_sac``, environment and robot ``franka_sim``, teleoperator
``franka_sim_expert``, optimizer). The import is cheap and must never fail: LeRobot only logs a plugin that raises, and every type it
registers is then missing.
"""

from .envs import config_franka_sim as _config_franka_sim  # noqa: F401
from .policy.configuration_serl_sac import SerlSacConfig
from .robots import config_franka_sim_robot as _config_franka_sim_robot  # noqa: F401
from .teleoperators import config_franka_sim_expert as _config_franka_sim_expert  # noqa: F401

__all__ = ["SerlSacConfig"]
__version__ = "0.1.0"
