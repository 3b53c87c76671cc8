"""Makes `gamepad`, `keyboard`, `keyboard_ee` and `phone` of LeRobot selectable in every command that loads plugins.

LeRobot's commands each import some of these and not others (0.6.x: lerobot-rollout none of them), and a type can be chosen only once its
module has been imported. Importing this module never fails: a device whose own packages are broken is left out, with a warning.
"""

import importlib
import logging

DEVICES = ("gamepad", "keyboard", "phone")

for _device in DEVICES:
    try:
        importlib.import_module(f"lerobot.teleoperators.{_device}")
    except Exception as error:  # a device driver's import may raise anything, and must not take the other types with it
        logging.getLogger(__name__).warning("--teleop.type=%s cannot be used here: %s: %s", _device, type(error).__name__, error)
