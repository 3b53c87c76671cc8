"""SERL's SAC for LeRobot: fine-tune a pretrained ACT policy on the robot.

Importing the package registers its LeRobot types (policy ``serl_sac``, environment ``franka_sim``, optimizer). The import is cheap and
must never fail: LeRobot only logs a plugin that raises, and every type it registers is then missing.
"""

from .envs import config_franka_sim as _config_franka_sim  # noqa: F401
from .policy.configuration_serl_sac import SerlSacConfig

__all__ = ["SerlSacConfig"]
__version__ = "0.1.0"
