"""SERL's SAC for LeRobot: fine-tune a pretrained ACT policy on the robot.

Importing the package registers its LeRobot types: policy ``serl_sac`` and its optimizer, environment ``franka_sim``, robots ``franka``,
``franka_sim`` and ``bi_franka_sim``, teleoperators ``serl_spacemouse``, ``serl_gello``, ``franka_sim_expert`` and ``bi_franka_sim_expert``;
and LeRobot's own gamepad, keyboards and phone, which not every command knows by itself. The import is cheap and must never fail: LeRobot
only logs a plugin that raises, and every type it registers is then missing.
"""

from . import lerobot_names as _lerobot_names  # noqa: F401 - first: on another LeRobot it ends the import with a sentence
from .envs import config_franka_sim as _config_franka_sim  # noqa: F401
from .policy.configuration_serl_sac import SerlSacConfig
from .robots import config_bi_franka_sim_robot as _config_bi_franka_sim_robot  # noqa: F401
from .robots import config_franka as _config_franka  # noqa: F401
from .robots import config_franka_sim_robot as _config_franka_sim_robot  # noqa: F401
from .teleoperators import config_bi_franka_sim_expert as _config_bi_franka_sim_expert  # noqa: F401
from .teleoperators import config_franka_sim_expert as _config_franka_sim_expert  # noqa: F401
from .teleoperators import config_serl_gello as _config_serl_gello  # noqa: F401
from .teleoperators import config_serl_spacemouse as _config_serl_spacemouse  # noqa: F401
from .teleoperators import stock_devices as _stock_devices  # noqa: F401

__all__ = ["SerlSacConfig"]
__version__ = "0.2.0.dev0"
