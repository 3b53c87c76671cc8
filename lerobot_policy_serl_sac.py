"""Discovery shim: LeRobot imports every installed distribution whose name starts with ``lerobot_policy_``.

The code is the package ``lerobot_serl``; importing it registers its configurations with LeRobot.
"""

import lerobot_serl  # noqa: F401
